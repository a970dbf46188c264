// @zitadel/client over gRPC. Arguments: URL TOKEN RELAY.
import { createServerTransport } from "@zitadel/client/node";
import { createAdminServiceClient } from "@zitadel/client/v1";
import { connectFailure } from "./connect-failure.mjs";
import { life } from "./life.mjs";

const [url, token, relay] = process.argv.slice(2);
const client = createAdminServiceClient(createServerTransport(token, { baseUrl: url, httpVersion: "2" }));

await life(client, connectFailure(client), relay);
