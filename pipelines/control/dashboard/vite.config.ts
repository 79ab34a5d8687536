import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

/** During `npm run dev` the API answers beside the page, as it does when it serves the built one. */
const api = process.env.FORGE_API ?? "http://127.0.0.1:8083";
const paths = ["/auth", "/phases", "/models", "/metrics", "/config", "/system", "/readyz"];

export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2023",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // a data: address would need a hole in the content security policy
    reportCompressedSize: false,
    manifest: true, // scripts/size.mjs reads what the first page needs
  },
  server: {
    port: 3000,
    proxy: { ...Object.fromEntries(paths.map((path) => [path, api])), "/ws": { target: api, ws: true } },
  },
  test: { environment: "jsdom", include: ["tests/**/*.test.ts", "tests/**/*.test.tsx"] },
});
