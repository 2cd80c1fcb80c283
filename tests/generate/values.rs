//! The reference of the chart's values: defaults and meanings from values.yaml, types and bounds from its schema.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::{NOTE, cell};

/// Every value that can be set: its type, its default, its meaning.
///
/// # Panics
/// When values.yaml and its schema do not speak of the same values, or a value is not explained.
pub fn values(root: &Path) -> String {
    let read = |name: &str| std::fs::read_to_string(root.join("charts/belay").join(name)).unwrap();
    let (yaml, schema) = (read("values.yaml"), read("values.schema.json"));
    let table =
        Table { schema: serde_json::from_str(&schema).unwrap(), comments: comments(&yaml), text: String::new() };
    let defaults: Value = serde_yaml::from_str(&yaml).unwrap();
    format!(
        "{NOTE}\n\n# Values of the chart\n\n\
         `helm upgrade --install belay charts/belay --set replicas=2`, or a file with `--values`. A value that is not listed here, or is not \
         of its type, is refused before anything is installed.\n\n\
         | value | type | default | meaning |\n| --- | --- | --- | --- |\n{}",
        table.rows(&defaults)
    )
}

struct Table {
    schema: Value,
    comments: HashMap<String, String>,
    text: String,
}

impl Table {
    fn rows(mut self, defaults: &Value) -> String {
        let schema = self.schema.clone();
        self.below("", &schema, defaults, None);
        self.text
    }

    /// The rows of an object's values, by name. `above`: what explains an only child.
    fn below(&mut self, path: &str, schema: &Value, defaults: &Value, above: Option<&str>) {
        for name in schema["properties"].as_object().unwrap().keys().filter(|name| *name != "global") {
            assert!(defaults.get(name).is_some(), "values.yaml has no {path}{name}, which its schema has");
        }
        for (name, default) in defaults.as_object().unwrap() {
            let path = format!("{path}{name}");
            let schema = self.resolve(&schema["properties"][name]);
            assert!(schema.is_object(), "values.schema.json has no {path}");
            let comment = self.comments.get(&path).cloned();
            let is_object = schema["properties"].is_object() && default.as_object().is_some_and(|map| !map.is_empty());
            if !is_object {
                let meaning = comment.as_deref().or(above).unwrap_or_default();
                self.row(&path, &schema, &default.to_string(), meaning);
            } else if default.as_object().unwrap().len() == 1 {
                self.below(&format!("{path}."), &schema, default, comment.as_deref());
            } else {
                if let Some(comment) = &comment {
                    writeln!(self.text, "| `{path}` | | | {} |", cell(comment)).unwrap();
                }
                // `enabled` needs no words where the object has some.
                self.below(&format!("{path}."), &schema, default, comment.as_deref().map(|_| ""));
            }
            let explained = comment.is_some() || above.is_some() || is_object;
            assert!(explained, "values.yaml does not explain {path}: put a comment above it");
        }
    }

    fn row(&mut self, path: &str, schema: &Value, default: &str, meaning: &str) {
        let kind = self.kind(schema);
        let bounds = match (&schema["minimum"].as_i64(), &schema["pattern"].as_str()) {
            (Some(least), _) => format!(" At least {least}."),
            (_, Some(pattern)) => format!(" Matches `{pattern}`."),
            _ => String::new(),
        };
        writeln!(self.text, "| `{path}` | {kind} | `{default}` | {} |", cell(&format!("{meaning}{bounds}"))).unwrap();
    }

    fn kind(&self, schema: &Value) -> String {
        if let Some(values) = schema["enum"].as_array() {
            let values: Vec<_> = values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
            return values.join(", ");
        }
        match schema["type"].as_str().unwrap_or("any") {
            "array" => format!("list of {}", self.kind(&self.resolve(&schema["items"]))),
            "object" if schema["additionalProperties"].is_object() => "map".to_owned(),
            kind => kind.to_owned(),
        }
    }

    fn resolve(&self, schema: &Value) -> Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.schema.pointer(reference.trim_start_matches('#')).unwrap().clone(),
            None => schema.clone(),
        }
    }
}

/// What stands above each key, by its path; lines that are set in further are examples, and stand as code.
fn comments(yaml: &str) -> HashMap<String, String> {
    let (mut comments, mut path, mut above) = (HashMap::new(), Vec::<(usize, &str)>::new(), Vec::new());
    for line in yaml.lines() {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        if let Some(comment) = text.strip_prefix('#') {
            let example = comment.starts_with("   ");
            above.push(if example { format!("`{}`", comment.trim()) } else { comment.trim().to_owned() });
        } else if let Some((key, _)) = text.split_once(':') {
            path.retain(|(above, _)| *above < depth);
            path.push((depth, key));
            let names: Vec<_> = path.iter().map(|(_, name)| *name).collect();
            if !above.is_empty() {
                comments.insert(names.join("."), above.join(" "));
            }
            above.clear();
        }
    }
    comments
}
