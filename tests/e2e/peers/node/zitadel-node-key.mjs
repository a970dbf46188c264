// @zitadel/node as a service account: signs in with a key file (JWT profile). Arguments: URL KEY-FILE RELAY.
import { readFileSync } from "node:fs";
import { createAdminClient, createServiceAccountInterceptor } from "@zitadel/node/dist/api/index.js";
import { ServiceAccount } from "@zitadel/node/dist/credentials/index.js";
import { life } from "./life.mjs";
import { niceFailure } from "./nice-failure.mjs";

const [url, file, relay] = process.argv.slice(2);
const account = ServiceAccount.fromJsonString(readFileSync(file, "utf8"));
const client = createAdminClient(url, createServiceAccountInterceptor(url, account, { apiAccess: true }));

await life(client, niceFailure(client), relay);
