// connect-web's gRPC-Web transport, as in a browser. Arguments: URL TOKEN RELAY.
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { AdminService } from "@zitadel/proto/zitadel/admin_pb.js";
import { connectFailure } from "./connect-failure.mjs";
import { life } from "./life.mjs";

const [url, token, relay] = process.argv.slice(2);
const authorized = (next) => (request) => {
  request.header.set("authorization", `Bearer ${token}`);
  return next(request);
};
const client = createClient(AdminService, createGrpcWebTransport({ baseUrl: url, interceptors: [authorized] }));

await life(client, connectFailure(client), relay);
