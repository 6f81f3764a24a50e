/** The SDK: types and functions of every operation, made from the description of the API. */
export default {
  input: '../docs/api/openapi.json',
  output: { path: 'sdk/gen' },
  plugins: ['@hey-api/typescript', '@hey-api/sdk', { name: '@hey-api/client-fetch', runtimeConfigPath: undefined }],
}
