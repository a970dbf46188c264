// @zitadel/node (nice-grpc on grpc-js). Arguments: URL TOKEN RELAY.
import { createAccessTokenInterceptor, createAdminClient } from "@zitadel/node/dist/api/index.js";
import { life } from "./life.mjs";
import { niceFailure } from "./nice-failure.mjs";

const [url, token, relay] = process.argv.slice(2);
const client = createAdminClient(url, createAccessTokenInterceptor(token));

await life(client, niceFailure(client), relay);
