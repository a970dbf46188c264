// What a failed call of a Connect client says.
import { ConnectError } from "@connectrpc/connect";
import { ErrorDetailSchema } from "@zitadel/proto/zitadel/message_pb.js";

export function connectFailure(client) {
  return async (call) => {
    try {
      await call(client);
    } catch (reason) {
      const error = ConnectError.from(reason);
      return { code: error.code, id: error.findDetails(ErrorDetailSchema)[0]?.id ?? "" };
    }
    throw new Error("the call was to fail");
  };
}
