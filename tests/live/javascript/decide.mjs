// Decides for many units with GrowthBook's JavaScript SDK, against a running service.
// Standard input: {"apiHost", "clientKey", "keys": [...], "units": [attributes, ...]}
// Standard output: for each unit, for each key: [value, variation or null]
import { GrowthBook } from "@growthbook/growthbook";

let text = "";
for await (const chunk of process.stdin) text += chunk;
const { apiHost, clientKey, keys, units } = JSON.parse(text);

const sdk = new GrowthBook({ apiHost, clientKey });
const loaded = await sdk.init({ timeout: 10000, streaming: false });
if (!loaded.success) throw loaded.error ?? new Error(`not loaded: ${loaded.source}`);

const answers = [];
for (const attributes of units) {
  await sdk.setAttributes(attributes);
  answers.push(
    keys.map((key) => {
      const { value, experimentResult } = sdk.evalFeature(key);
      const inside = experimentResult && experimentResult.inExperiment;
      return [value, inside ? experimentResult.key : null];
    }),
  );
}
process.stdout.write(JSON.stringify(answers));
