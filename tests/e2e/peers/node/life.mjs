// The life of a provider, told by whatever client is given: the calls of both families, in order. It is the twin of
// tests/support/life.py, which says what is to be seen.
//
// `client` has one method per call (addSMTPConfig, ...). `failure(call)` runs `call(client, options)`, which must fail,
// and returns {code, id}: the gRPC code as a number and the id of the ErrorDetail.
// The last line on stdout is JSON: family → what was seen.

const families = {
  smtp: {
    add: "addSMTPConfig", active: "getSMTPConfig", get: "getSMTPConfigById", list: "listSMTPConfigs",
    activate: "activateSMTPConfig", update: "updateSMTPConfig", rotate: "updateSMTPConfigPassword",
    test: "testSMTPConfigById", deactivate: "deactivateSMTPConfig", remove: "removeSMTPConfig",
  },
  email: {
    add: "addEmailProviderSMTP", active: "getEmailProvider", get: "getEmailProviderById",
    list: "listEmailProviders", activate: "activateEmailProvider", update: "updateEmailProviderSMTP",
    rotate: "updateEmailProviderSMTPPassword", test: "testEmailProviderSMTPById",
    deactivate: "deactivateEmailProvider", remove: "removeEmailProvider",
  },
};
const states = ["", "ACTIVE", "INACTIVE"];

export async function life(client, failure, relay) {
  const seen = {};
  for (const family of Object.keys(families)) seen[family] = await live(client, failure, relay, families[family]);
  console.log(JSON.stringify(seen));
}

async function live(client, failure, relay, names) {
  const seen = {};
  const config = {
    senderAddress: "noreply@example.com", senderName: "Example", host: relay, tls: false, user: "relay",
    password: "another", description: "by a client", replyToAddress: "help@example.com",
  };
  const mail = { receiverAddress: "ada@example.org" };
  const done = (what, request) => client[names[what]](request);
  const failed = async (what, request) => {
    const { code, id } = await failure((c, options) => c[names[what]](request, options));
    return [code, id];
  };
  const shown = async (what, request) => {
    const answer = await done(what, request);
    const provider = answer.smtpConfig ?? answer.config;
    const { senderName, host, user } = answer.smtpConfig ?? provider.smtp ?? provider.config.value;
    return { senderName, host, user, description: provider.description, state: states[provider.state] };
  };

  seen.noneActive = await failed("active", {});
  const added = await done("add", config);
  const id = added.id;
  seen.idDigits = id.length;
  seen.added = await shown("get", { id });
  seen.listed = (await done("list", { query: { limit: 10 } })).result.map((one) => one.id === id);
  await done("activate", { id });
  seen.active = await shown("active", {});
  seen.twice = await failed("activate", { id });
  seen.wrongPassword = await failed("test", { id, ...mail });
  await done("update", { id, ...config, password: "", senderName: "Größe", description: "" });
  seen.updated = await shown("active", {});
  const rotated = await done("rotate", { id, password: "correct horse" });
  seen.sequenceGrows = Number(rotated.details.sequence) > Number(added.details.sequence);
  await done("test", { id, ...mail });
  await done("deactivate", { id });
  seen.inactive = await shown("get", { id });
  await done("remove", { id });
  seen.removed = await failed("get", { id });
  seen.tooLong = await failed("get", { id: "x".repeat(201) });
  seen.listedAfterwards = (await done("list", {})).result.length;
  return seen;
}
