-- wrk: orders of two lines, each with a key of its own.
-- Environment: TOKEN, PRODUCTS (ids, separated by commas), PAUSE_MS (between a connection's requests; 0: none), TOLD (a
-- file for the ids of the orders that were accepted; none: they are not kept).
local token, products, pause = os.getenv("TOKEN"), {}, tonumber(os.getenv("PAUSE_MS") or "0")
for id in string.gmatch(os.getenv("PRODUCTS"), "[^,]+") do products[#products + 1] = id end
local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init()
    math.randomseed(os.time() * 100 + number)
    sent = 0
    run = string.format("%d-%d-%d", os.time(), number, math.random(1, 1e9))
    local path = os.getenv("TOLD") or ""
    if path ~= "" then
        told = io.open(path, "a")
        told:setvbuf("line")
    end
end

function request()
    sent = sent + 1
    local first = math.random(1, #products)
    local second = (first + math.random(1, #products - 1) - 1) % #products + 1
    local body = string.format('{"items":[{"productId":"%s","quantity":1},{"productId":"%s","quantity":2}]}',
                               products[first], products[second])
    return wrk.format("POST", "/api/v1/orders", {
        ["Authorization"] = "Bearer " .. token,
        ["Content-Type"] = "application/json",
        ["Idempotency-Key"] = run .. "-" .. sent,
    }, body)
end

if pause > 0 then
    function delay()
        return math.random(0, 2 * pause)
    end
end

if (os.getenv("TOLD") or "") ~= "" then
    function response(status, _, body)
        if status == 202 then told:write(string.match(body, '"orderId":"([^"]+)"'), "\n") end
    end
end

function done(summary, latency)
    io.write(string.format(
        'JSON {"requests":%d,"seconds":%.3f,"p50":%.3f,"p99":%.3f,"non2xx":%d,"errors":%d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
        summary.errors.status, summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
