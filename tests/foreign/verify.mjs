// Says the type of a webhook that the package of that name accepts: {"secret", "headers", "body"} on standard input.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const { secret, headers, body } = JSON.parse(readFileSync(0, "utf8"));
try {
  console.log(new Webhook(secret).verify(body, headers).type);
} catch (refused) {
  console.error(String(refused));
  process.exit(1);
}
