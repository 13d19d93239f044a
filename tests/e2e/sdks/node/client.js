// Asks for tokens as an ordinary program with @azure/identity: one JSON order a line in, one JSON answer a line out.
"use strict";
const readline = require("node:readline");
const { DefaultAzureCredential, ManagedIdentityCredential, WorkloadIdentityCredential } = require("@azure/identity");

async function answer(order) {
  const credential = order.default
    ? new DefaultAzureCredential()
    : order.managed
    ? new ManagedIdentityCredential(order.clientId ? { clientId: order.clientId } : {})
    : new WorkloadIdentityCredential({
        tenantId: order.tenantId,
        clientId: order.clientId,
        tokenFilePath: order.tokenFile,
        disableInstanceDiscovery: !order.discovery,
        retryOptions: { maxRetries: order.retries },
      });
  try {
    const token = await credential.getToken(order.scope);
    return { token: token.token, expires: token.expiresOnTimestamp / 1000 };
  } catch (error) {
    const response = error.errorResponse ?? {};
    return {
      error: String(error.message),
      codes: response.errorCodes ?? [],
      correlation: response.correlationId ?? error.correlationId ?? "",
    };
  }
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await answer(JSON.parse(line))));
  }
})();
