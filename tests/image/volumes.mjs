// The names of podman's volumes for the pod on standard input.
import fs from 'node:fs';
import { createRequire } from 'node:module';

const YAML = createRequire(new URL('../k8s/package.json', import.meta.url))('yaml');
const docs = YAML.parseAllDocuments(fs.readFileSync(0, 'utf8')).map((document) => document.toJS());
for (const { name, configMap } of docs.find((doc) => doc.kind === 'Pod').spec.volumes)
    console.log(configMap?.name ?? name);
