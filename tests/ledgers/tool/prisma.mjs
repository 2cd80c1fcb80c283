// What `prisma migrate deploy` does, over Prisma's own schema engine: its command line would fetch a program from
// elsewhere, and the engine's WebAssembly is a package of its own.
// Arguments: the folder that node_modules is in, the database's URL, the folder of the migrations.
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, url, folder] = process.argv.slice(2);
const require = createRequire(join(modules, "index.js"));
const engineFolder = join(modules, "node_modules/@prisma/schema-engine-wasm");
const bindings = await import(pathToFileURL(join(engineFolder, "schema_engine_bg.js")));
const { PrismaPg } = require("@prisma/adapter-pg");
const { bindMigrationAwareSqlAdapterFactory } = require("@prisma/driver-adapter-utils");

const code = new WebAssembly.Module(readFileSync(join(engineFolder, "schema_engine_bg.wasm")));
const instance = new WebAssembly.Instance(code, { "./schema_engine_bg.js": bindings });
bindings.__wbg_set_wasm(instance.exports);
instance.exports.__wbindgen_start();

const schema = 'datasource db { provider = "postgresql" }';
const adapter = bindMigrationAwareSqlAdapterFactory(new PrismaPg({ connectionString: url }));
const engine = await bindings.SchemaEngine.new({ datamodels: [["schema.prisma", schema]] }, () => {}, adapter);
const directories = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
const { appliedMigrationNames } = await engine.applyMigrations({
  migrationsList: {
    baseDir: folder,
    shadowDbInitScript: "",
    lockfile: { path: "migration_lock.toml", content: readFileSync(join(folder, "migration_lock.toml"), "utf8") },
    migrationDirectories: directories.map(({ name }) => ({
      path: name,
      migrationFile: {
        path: "migration.sql",
        content: { tag: "ok", value: readFileSync(join(folder, name, "migration.sql"), "utf8") },
      },
    })),
  },
  filters: { externalTables: [], externalEnums: [] },
});
console.error(bindings.version(), appliedMigrationNames);
process.exit(0);
