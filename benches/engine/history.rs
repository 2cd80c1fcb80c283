//! Histories of scripts as projects have them: tables, columns, indexes, constraints, functions, views, seeds, backfills.
//! Made up, but always the same; and one that a project really has.

use std::fmt::Write as _;
use std::process::Command;

/// File names and texts, in order.
pub type Files = Vec<(String, String)>;

/// A history of `count` scripts, each of which does the next `each` of [`KINDS`]. Of one it has 1 to 3 statements; of two, 2 to
/// 4; of all ten, 14.
pub fn many(count: usize, each: usize) -> Files {
    let script = |n: usize| {
        let first = n * each;
        let name = format!("{:05}_{}.sql", n + 1, KINDS[first % KINDS.len()].0);
        (name, (first..first + each).map(small).collect())
    };
    (0..count).map(script).collect()
}

/// What a history of many years goes through, time and again: a table is made in the first, and worked on in the others.
const KINDS: &[(&str, &str)] = &[
    (
        "create_table",
        "CREATE TABLE orders_# (\n    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n    number     text NOT NULL UNIQUE,\n    \
         customer   bigint NOT NULL,\n    amount     numeric(12, 2) NOT NULL CHECK (amount >= 0),\n    note       text,\n    \
         created_at timestamptz NOT NULL DEFAULT now()\n);\nCREATE INDEX orders_#_customer ON orders_# (customer);\n\
         COMMENT ON TABLE orders_# IS 'One row an order; it''s kept for ten years';\n",
    ),
    (
        "seed",
        "INSERT INTO orders_# (number, customer, amount)\nSELECT 'N' || n, n % 17, n * 1.5 FROM generate_series(1, 50) AS n;\n",
    ),
    (
        "add_column",
        "ALTER TABLE orders_#\n    ADD COLUMN IF NOT EXISTS state text NOT NULL DEFAULT 'open',\n    ADD COLUMN paid_at timestamptz;\n",
    ),
    ("add_index", "CREATE INDEX orders_#_created ON orders_# (created_at) WHERE state = 'open';\n"),
    (
        "add_check",
        "ALTER TABLE orders_# ADD CONSTRAINT orders_#_state CHECK (state IN ('open', 'paid', 'lost')) NOT VALID;\n\
         ALTER TABLE orders_# VALIDATE CONSTRAINT orders_#_state;\n",
    ),
    (
        "add_items",
        "CREATE TABLE items_# (\n    order_id bigint NOT NULL REFERENCES orders_# ON DELETE CASCADE,\n    position int NOT NULL,\n    \
         article  text NOT NULL,\n    PRIMARY KEY (order_id, position)\n);\n",
    ),
    (
        "add_function",
        "CREATE FUNCTION touch_#() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n    -- A semicolon; in a comment.\n    \
         NEW.paid_at := CASE WHEN NEW.state = 'paid' THEN now() END;\n    RETURN NEW;\nEND;\n$$;\n\
         CREATE TRIGGER touch BEFORE UPDATE ON orders_# FOR EACH ROW EXECUTE FUNCTION touch_#();\n",
    ),
    ("backfill", "UPDATE orders_# SET state = 'paid' WHERE customer < 5;\n"),
    ("add_view", "CREATE VIEW open_# AS SELECT id, number, amount FROM orders_# WHERE state = 'open';\n"),
    ("drop_column", "ALTER TABLE orders_# DROP COLUMN note;\n"),
];

fn small(n: usize) -> String {
    let (kind, body) = KINDS[n % KINDS.len()];
    let header = format!(
        "-- Description: {}\n-- Author: Somebody\n-- Date: 2026-01-{:02}\n\n",
        kind.replace('_', " "),
        n % 28 + 1
    );
    header + &body.replace('#', &(n / KINDS.len()).to_string())
}

/// The history of a project, as it published it: the 343 scripts that Coder's database went through. Fetched by Go's own
/// means, as it is under another licence than this. None: it could not be had.
pub fn real() -> Option<Files> {
    const MODULE: &str = "github.com/coder/coder/v2@v2.24.0";
    let answer = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .current_dir(std::env::temp_dir())
        .env("GOFLAGS", "-mod=mod")
        .output()
        .ok()?;
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).ok()?;
    let folder = std::path::Path::new(answer["Dir"].as_str()?).join("coderd/database/migrations");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).ok()? {
        let path = entry.ok()?.path();
        // As Belay's own layout calls them.
        if let Some(name) = path.file_name()?.to_str()?.strip_suffix(".up.sql") {
            files.push((format!("{name}.sql"), std::fs::read_to_string(&path).ok()?));
        }
    }
    files.sort();
    (!files.is_empty()).then_some(files)
}

/// One script of about `bytes`: rows by INSERT, a few hundred to a statement.
pub fn big(bytes: usize) -> Files {
    let mut text = "CREATE TABLE readings (id int, sensor text, value numeric, note text);\n".to_owned();
    let mut id = 0;
    while text.len() < bytes {
        text.push_str("INSERT INTO readings VALUES\n");
        for row in 0..400 {
            let end = if row == 399 { ";\n" } else { ",\n" };
            let _ = write!(
                text,
                "({id}, 'sensor {}', {}.{}, 'it''s {:x}'){end}",
                id % 97,
                id % 1000,
                id % 10,
                id * 2_654_435_761_u64
            );
            id += 1;
        }
    }
    vec![("1_readings.sql".to_owned(), text)]
}

/// One script that copies this many rows in.
pub fn copy(rows: usize) -> Files {
    let mut text =
        "CREATE TABLE readings (id int, sensor text, value numeric);\nCOPY readings FROM stdin;\n".to_owned();
    for id in 0..rows {
        let _ = writeln!(text, "{id}\tsensor {}\t{}.{}", id % 97, id % 1000, id % 10);
    }
    text.push_str("\\.\n");
    vec![("1_readings.sql".to_owned(), text)]
}
