// Makes web/pages/static: one script, one style, and the files of public/ as they are.
import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: process.env.OUT_DIR ?? "../pages/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    cssCodeSplit: false,
    rolldownOptions: {
      input: "src/main.tsx",
      output: { entryFileNames: "app.js", assetFileNames: "app[extname]" },
    },
  },
});
