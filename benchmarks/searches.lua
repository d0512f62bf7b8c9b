-- wrk: searches, hardly one like another: one to three words, cut short or mistyped now and then, and a page.
local words = {"milk", "bread", "apple", "cheese", "coffee", "butter", "rice", "pasta", "yogurt", "water", "soap", "paper",
               "candy", "cereal", "wine", "shampoo", "chicken", "frozen", "salad", "pepper", "green", "orange", "cards", "pizza"}

function init()
    math.randomseed(os.time())
end

local function word()
    local found = words[math.random(1, #words)]
    local chance = math.random()
    if chance < 0.1 then return string.sub(found, 1, 3) end
    if chance < 0.2 then
        local at = math.random(2, #found - 1)
        return string.sub(found, 1, at - 1) .. string.sub(found, at + 1)
    end
    return found
end

function request()
    local asked = {}
    for _ = 1, math.random(1, 3) do asked[#asked + 1] = word() end
    return wrk.format("GET", string.format("/api/v1/products/search?q=%s&page=%d", table.concat(asked, "%20"), math.random(1, 3)))
end

function done(summary, latency)
    io.write(string.format('JSON {"requests":%d,"seconds":%.3f,"p50":%.3f,"p95":%.3f,"p99":%.3f,"non2xx":%d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(95) / 1000,
        latency:percentile(99) / 1000, summary.errors.status))
end
