// The life of an SMTP configuration, told by whatever client is given: every call of the family, in order.
//
// `client` has one method per call (addSMTPConfig, ...). `failure(call)` runs `call(client, options)`, which must fail,
// and returns {code, id}: the gRPC code as a number and the id of the ErrorDetail.
// The last line on stdout is JSON: what was seen, for the test to judge.

export async function life(client, failure, relay) {
  const seen = {};
  const config = {
    senderAddress: "noreply@example.com", senderName: "Example", host: relay, tls: false, user: "relay",
    password: "first", description: "by Node", replyToAddress: "help@example.com",
  };

  seen.noneActive = await failure((c, o) => c.getSMTPConfig({}, o));
  const added = await client.addSMTPConfig(config);
  const id = added.id;
  seen.idDigits = id.length;
  seen.added = shape((await client.getSMTPConfigById({ id })).smtpConfig);

  seen.listed = (await client.listSMTPConfigs({ query: { limit: 10 } })).result.map((one) => one.id === id);

  await client.activateSMTPConfig({ id });
  seen.active = shape((await client.getSMTPConfig({})).smtpConfig);
  seen.twice = await failure((c, o) => c.activateSMTPConfig({ id }, o));

  await client.updateSMTPConfig({ id, ...config, password: "", senderName: "Renamed Größe", description: "changed" });
  seen.updated = shape((await client.getSMTPConfig({})).smtpConfig);
  const rotated = await client.updateSMTPConfigPassword({ id, password: "second" });
  seen.sequenceGrows = Number(rotated.details.sequence) > Number(added.details.sequence);

  await client.deactivateSMTPConfig({ id });
  seen.inactive = shape((await client.getSMTPConfigById({ id })).smtpConfig);
  await client.removeSMTPConfig({ id });
  seen.removed = await failure((c, o) => c.getSMTPConfigById({ id }, o));
  seen.tooLong = await failure((c, o) => c.getSMTPConfigById({ id: "x".repeat(201) }, o));
  seen.listedAfterwards = (await client.listSMTPConfigs({})).result.length;

  console.log(JSON.stringify(seen));
}

function shape(config) {
  const { senderAddress, senderName, host, tls, user, description, replyToAddress, state } = config;
  return { senderAddress, senderName, host, tls, user, description, replyToAddress, state, password: config.password };
}
