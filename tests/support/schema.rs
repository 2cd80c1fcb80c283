//! What there is to try in a schema: its rules, its bounds, and values on either side of each bound.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use serde_json::{Value, json};

/// One bound of one field: values that it lets through, and values that it stops.
pub struct Bound {
    /// With dots; `0` stands for the first item of a list.
    pub path: String,
    pub what: String,
    pub taken: Vec<Value>,
    pub refused: Vec<Value>,
}

/// The messages of all rules, in order, each once.
pub fn rules(schema: &JSONSchemaProps) -> Vec<String> {
    let mut messages: Vec<String> =
        schema.x_kubernetes_validations.iter().flatten().filter_map(|rule| rule.message.clone()).collect();
    for (_, _, child) in children(schema, "") {
        messages.extend(rules(child));
    }
    messages.sort();
    messages.dedup();
    messages
}

/// The paths of all fields below `part` (`spec` or `status`) that have no fields of their own.
pub fn leaves(root: &JSONSchemaProps, part: &str) -> Vec<String> {
    fn below(schema: &JSONSchemaProps, path: &str, leaves: &mut Vec<String>) {
        let children = children(schema, path);
        if children.is_empty() {
            leaves.push(path.to_owned());
        }
        for (path, _, child) in children {
            below(child, &path, leaves);
        }
    }
    let mut found = Vec::new();
    below(&root.properties.as_ref().unwrap()[part], part, &mut found);
    found
}

/// The bounds of all fields below `part`.
pub fn bounds(root: &JSONSchemaProps, part: &str) -> Vec<Bound> {
    fn below(schema: &JSONSchemaProps, path: &str, bounds: &mut Vec<Bound>) {
        for (path, required, child) in children(schema, path) {
            if required {
                bounds.push(bound(&path, "required", [], [Value::Null]));
            }
            of_field(&path, child, bounds);
            // What a condition may be is Kubernetes' own.
            if !path.contains("conditions.0") {
                below(child, &path, bounds);
            }
        }
    }
    let mut found = Vec::new();
    below(&root.properties.as_ref().unwrap()[part], part, &mut found);
    found
}

/// The fields of an object, or the item of a list, with whether each must be there.
fn children<'a>(schema: &'a JSONSchemaProps, path: &str) -> Vec<(String, bool, &'a JSONSchemaProps)> {
    let required = |name: &String| schema.required.iter().flatten().any(|required| required == name);
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let fields = schema.properties.iter().flatten().map(|(name, field)| (join(name), required(name), field));
    let item = match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => Some((join("0"), false, &**item)),
        _ => None,
    };
    fields.chain(item).collect()
}

fn bound<const T: usize, const R: usize>(path: &str, what: &str, taken: [Value; T], refused: [Value; R]) -> Bound {
    Bound { path: path.to_owned(), what: what.to_owned(), taken: taken.into(), refused: refused.into() }
}

fn of_field(path: &str, field: &JSONSchemaProps, bounds: &mut Vec<Bound>) {
    if let Some(values) = &field.enum_ {
        let taken = values.iter().map(|value| value.0.clone()).filter(|value| !value.is_null()).collect();
        bounds.push(Bound {
            path: path.to_owned(),
            what: "one of".to_owned(),
            taken,
            refused: vec![json!("other"), json!("")],
        });
    }
    if let Some(pattern) = &field.pattern {
        let (taken, refused) = examples(pattern);
        bounds.push(Bound { path: path.to_owned(), what: format!("pattern {pattern}"), taken, refused });
    }
    let text = |length: i64| json!(sized(field.pattern.as_deref(), length));
    if let Some(least) = field.min_length {
        bounds.push(bound(path, "minLength", [text(least)], [text(least - 1)]));
    }
    if let Some(most) = field.max_length {
        bounds.push(bound(path, "maxLength", [text(most)], [text(most + 1)]));
    }
    if let Some(least) = field.minimum {
        bounds.push(bound(path, "minimum", [json!(least as i64)], [json!(least as i64 - 1)]));
    }
    if let Some(most) = field.maximum {
        bounds.push(bound(path, "maximum", [json!(most as i64)], [json!(most as i64 + 1)]));
    }
    if let Some(least) = field.min_items {
        bounds.push(bound(path, "minItems", [items(path, least)], [items(path, least - 1)]));
    }
    if let Some(most) = field.max_items {
        bounds.push(bound(path, "maxItems", [items(path, most)], [items(path, most + 1)]));
    }
    if let Some(most) = field.max_properties {
        let of = |number: i64| (0..number).map(|n| (format!("{n}_a.sql"), json!("select 1;"))).collect::<Value>();
        bounds.push(bound(path, "maxProperties", [of(most)], [of(most + 1)]));
    }
}

/// Texts that a pattern takes, and texts that it refuses.
fn examples(pattern: &str) -> (Vec<Value>, Vec<Value>) {
    let (taken, refused): (&[&str], &[&str]) = match pattern {
        "^[0-9]+$" => (&["0", "001", "20260101120000"], &["v1", "1.0", "-1", " 1", "1\n"]),
        "^sha256:[0-9a-f]{64}$" => (&[], &["sha256:", "md5:00", "0000"]),
        "^([0-9]{1,6}(ms|s|m|h)){1,4}$" => {
            (&["0s", "200ms", "15m", "1h30m"], &["1w", "-5m", "5", "1.5h", "", "1 m", "1h1h1h1h1h"])
        }
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" => (&["a", "a-b", "9"], &["A", "-a", "a-", "a.b", "a b"]),
        "^https?://" => {
            (&["http://shop/", "https://shop.shop.svc:8443/healthz"], &["ftp://shop/", "shop", "javascript:a"])
        }
        "^([0-9]|none|(gzip|lz4|zstd)(:[0-9]{1,2})?)$" => (
            &["0", "none", "gzip", "gzip:1", "zstd:19", "lz4:1"],
            &["10", "gzip:", "gzip:1 --file=x", "bzip2", "zstd:long"],
        ),
        "^([A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?$" => {
            (&["", "a", "a/b.c/d"], &["/a", "a/", "..", "a/../b", "a//b", ".hidden", "a b"])
        }
        _ => panic!("no examples for the pattern {pattern}: add some to this test"),
    };
    let values = |texts: &[&str]| texts.iter().copied().map(Value::from).collect();
    (values(taken), values(refused))
}

/// A text of this length that the field's pattern, if any, takes.
fn sized(pattern: Option<&str>, length: i64) -> String {
    let length = usize::try_from(length).unwrap();
    match pattern {
        Some("^https?://") if length == 1 => "http://".to_owned(),
        Some("^https?://") if length >= 8 => format!("http://{}", "a".repeat(length - 7)),
        Some("^sha256:[0-9a-f]{64}$") if length >= 7 => format!("sha256:{}", "0".repeat(length - 7)),
        Some("^([0-9]{1,6}(ms|s|m|h)){1,4}$") => ["999999ms"; 5].concat().chars().take(length).collect(),
        Some("^[0-9]+$") => "1".repeat(length),
        // No text that the pattern takes is as long as this; the shorter one shows nothing new, the longer one is refused.
        Some("^([0-9]|none|(gzip|lz4|zstd)(:[0-9]{1,2})?)$") if length <= 32 => "gzip:1".to_owned(),
        _ => "a".repeat(length),
    }
}

/// A list of this many items, for a field that has a list.
fn items(path: &str, number: i64) -> Value {
    let item = |n: i64| match path.rsplit('.').next().unwrap() {
        "configMaps" => json!({ "name": format!("a{n}") }),
        "healthChecks" => json!({ "name": format!("a{n}"), "sql": { "query": "select true" } }),
        "containers" => json!({ "name": format!("a{n}"), "image": "busybox" }),
        "searchPath" | "relations" | "locks" | "names" => json!(format!("a{n}")),
        "waitingOn" => json!({ "pid": n, "user": "a", "application": "a", "lock": "a" }),
        "conditions" => json!({
            "type": format!("A{n}"), "status": "True", "reason": "A", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"
        }),
        "plan" => {
            json!({ "version": "1", "description": "a", "mode": "Transaction", "statements": 1, "rollback": "no" })
        }
        "history" => json!({ "id": "a", "startedAt": "a", "completedAt": "a", "outcome": "Succeeded" }),
        _ => panic!("no item for the list {path}: add one to this test"),
    };
    (0..number).map(item).collect()
}

/// What stands at a path.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    value.pointer(&format!("/{}", path.replace('.', "/")))
}

/// Puts `value` at a path, making objects on the way; null takes away what is there.
pub fn set(object: &mut Value, path: &str, value: Value) {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = object;
    for part in parent.split('.').filter(|part| !part.is_empty()) {
        place = match part.parse::<usize>() {
            Ok(number) => &mut place[number],
            Err(_) => {
                let fields = place.as_object_mut().unwrap();
                fields.entry(part).or_insert_with(|| json!({}))
            }
        };
    }
    match (name.parse::<usize>(), value) {
        (Ok(number), value) => place[number] = value,
        (Err(_), Value::Null) => drop(place.as_object_mut().unwrap().remove(name)),
        (Err(_), value) => drop(place.as_object_mut().unwrap().insert(name.to_owned(), value)),
    }
}
