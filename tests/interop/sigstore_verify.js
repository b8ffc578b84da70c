// Verifies a signature file with npm's `@sigstore/verify`, which knows nothing of models: the bundle's form and the
// signature over its statement. Prints the statement that is vouched for; ends with 1 and the reason otherwise.
// Arguments: the folder that has `node_modules`, the signature file, the public key in PEM.
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const path = require("path");

const [modules, signature, key] = process.argv.slice(2);
const load = (name) => require(path.join(modules, "node_modules", "@sigstore", name));
const { bundleFromJSON } = load("bundle");
const { Verifier, toSignedEntity } = load("verify");

const publicKey = crypto.createPublicKey(fs.readFileSync(key, "utf8"));
// No certificate and no log: the key is pinned, and every time is within its validity.
const material = {
  certificateAuthorities: [],
  timestampAuthorities: [],
  tlogs: [],
  ctlogs: [],
  publicKey: () => ({ publicKey, validFor: () => true }),
};
const demands = { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0, tsaThreshold: 0 };

try {
  const bundle = bundleFromJSON(JSON.parse(fs.readFileSync(signature, "utf8")));
  new Verifier(material, demands).verify(toSignedEntity(bundle));
  process.stdout.write(Buffer.from(bundle.content.dsseEnvelope.payload));
} catch (error) {
  process.stderr.write(`${error.code}: ${error.message}\n`);
  process.exit(1);
}
