import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vite'

// Browsers that know light-dark(), :has() and <dialog>: nothing is transpiled for older ones.
const TARGET = ['chrome123', 'firefox125', 'safari17.5']

export default defineConfig({
  plugins: [svelte()],
  base: '/',
  build: {
    target: TARGET,
    cssTarget: TARGET,
    cssCodeSplit: false,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // data: URLs would need a wider CSP
    outDir: process.env.VIBE_UI_OUT ?? '../vibe/web/static',
    emptyOutDir: true,
    manifest: 'manifest.json',
  },
  server: { proxy: { '/api': 'http://127.0.0.1:8080' } },
})
