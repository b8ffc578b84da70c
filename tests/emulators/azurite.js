// Serves Azure Blob Storage from memory on a loopback port with one container, `models`; prints its
// address, and ends with its standard input. Its one argument is the folder that has `node_modules`.
"use strict";
const crypto = require("crypto");
const http = require("http");
const path = require("path");

// The development account and its key, the same in every emulator.
const ACCOUNT = "devstoreaccount1";
const KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

process.stdin.on("end", () => process.exit(0));
process.stdin.resume();

function createContainer(address) {
  const target = new URL(`/${ACCOUNT}/models?restype=container`, address);
  const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2023-11-03" };
  const text =
    "PUT" + "\n".repeat(12) + `x-ms-date:${headers["x-ms-date"]}\nx-ms-version:${headers["x-ms-version"]}\n` +
    `/${ACCOUNT}/${ACCOUNT}/models\nrestype:container`;
  const signature = crypto.createHmac("sha256", Buffer.from(KEY, "base64")).update(text, "utf8").digest("base64");
  headers.Authorization = `SharedKey ${ACCOUNT}:${signature}`;
  headers["Content-Length"] = 0;
  http
    .request(target, { method: "PUT", headers }, (answer) => {
      answer.resume();
      if (answer.statusCode !== 201) {
        process.stderr.write(`no container: ${answer.statusCode}\n`);
        process.exit(1);
      }
      process.stdout.write(`${address}\n`);
    })
    .end();
}

console.log = (line) => {
  const listening = /successfully listens on (\S+)|successfully listening at (\S+)/.exec(String(line));
  if (listening) createContainer(listening[1] || listening[2]);
};

const main = path.join(process.argv[2], "node_modules/azurite/dist/src/blob/main.js");
process.argv = [
  process.argv[0], main, "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry",
  "--skipApiVersionCheck",
];
require(main);
