// What a failed call of a nice-grpc client says.
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { ErrorDetail } from "@zitadel/node/dist/api/generated/zitadel/message.js";

// google.rpc.Status: 3 = details, each a google.protobuf.Any: 2 = value.
function fields(bytes) {
  const found = {};
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (type === 2) found[number] = reader.bytes();
    else reader.skip(type);
  }
  return found;
}

export function niceFailure(client) {
  return async (call) => {
    let trailer;
    try {
      await call(client, { onTrailer: (metadata) => (trailer = metadata) });
    } catch (error) {
      const status = trailer?.get("grpc-status-details-bin");
      const detail = status && fields(status)[3];
      return { code: error.code, id: detail ? ErrorDetail.decode(fields(detail)[2]).id : "" };
    }
    throw new Error("the call was to fail");
  };
}
