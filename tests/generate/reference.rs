//! The reference of fields, from the schemas of the CRDs.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

use super::{NOTE, cell};

/// Every kind, every field: its type, its bounds, its default, its meaning.
pub fn api() -> String {
    let mut text = format!(
        "{NOTE}\n\n# Fields\n\n`*` marks what must be set. `kubectl explain migration.spec` says the same. All kinds are \
         namespaced, and a reference never leaves its namespace.\n"
    );
    for crd in belay::api::crds() {
        kind(&mut text, &crd);
    }
    text
}

fn kind(text: &mut String, crd: &CustomResourceDefinition) {
    let names = &crd.spec.names;
    let version = &crd.spec.versions[0];
    let root = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let short = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let description = root.description.as_deref().unwrap_or_default();
    write!(text, "\n## {}\n\n`{}/{}`, short {short}. {description}\n", names.kind, crd.spec.group, version.name)
        .unwrap();
    for part in ["spec", "status"] {
        let schema = &root.properties.as_ref().unwrap()[part];
        write!(text, "\n### {}.{part}\n\n| field | type | meaning |\n| --- | --- | --- |\n", names.kind).unwrap();
        rows(text, "", schema);
    }
    let mut rules = Vec::new();
    collect_rules(&mut rules, root);
    text.push_str("\nRules that the API server holds:\n\n");
    for rule in rules {
        writeln!(text, "- {rule}").unwrap();
    }
}

fn rows(text: &mut String, path: &str, schema: &JSONSchemaProps) {
    for (name, field) in schema.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let required = schema.required.iter().flatten().any(|required| required == name);
        let (kind, inner) = kind_of(field);
        let star = if required { "\\*" } else { "" };
        writeln!(text, "| `{path}`{star} | {kind} | {} |", meaning(field)).unwrap();
        // The fields of a condition and of a Pod template are Kubernetes' own.
        if name != "conditions" && field.x_kubernetes_preserve_unknown_fields != Some(true) {
            let path = if field.items.is_some() { format!("{path}[]") } else { path };
            rows(text, &path, inner);
        }
    }
}

fn kind_of(field: &JSONSchemaProps) -> (String, &JSONSchemaProps) {
    let name = |schema: &JSONSchemaProps| schema.type_.clone().unwrap_or_else(|| "any".to_owned());
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &field.items {
        return (format!("list of {}", name(item)), item);
    }
    if field.additional_properties.is_some() {
        return ("map of string".to_owned(), field);
    }
    if field.x_kubernetes_preserve_unknown_fields == Some(true) {
        return ("PodTemplateSpec".to_owned(), field);
    }
    (name(field), field)
}

fn meaning(field: &JSONSchemaProps) -> String {
    let mut parts: Vec<String> = field.description.iter().map(|description| cell(description)).collect();
    if let Some(values) = &field.enum_ {
        let values: Vec<_> =
            values.iter().filter_map(|value| value.0.as_str()).map(|value| format!("`{value}`")).collect();
        parts.push(format!("One of {}.", values.join(", ")));
    }
    if let Some(pattern) = &field.pattern {
        parts.push(format!("Matches `{}`.", cell(pattern)));
    }
    if let (Some(least), Some(most)) = (field.minimum, field.maximum) {
        parts.push(format!("{least} to {most}."));
    }
    if let Some(most) = field.max_length {
        parts.push(format!("At most {most} characters."));
    }
    if let Some(most) = field.max_items {
        parts.push(format!("At most {most} items."));
    }
    // The default of an object is that of its fields, which are listed.
    if let Some(default) = field.default.as_ref().filter(|default| !default.0.is_object()) {
        parts.push(format!("Default: `{}`.", default.0.as_str().map_or_else(|| default.0.to_string(), str::to_owned)));
    }
    parts.join(" ")
}

fn collect_rules(rules: &mut Vec<String>, schema: &JSONSchemaProps) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        let message = rule.message.as_deref().unwrap_or(&rule.rule).to_owned();
        if !rules.contains(&message) {
            rules.push(message);
        }
    }
    for field in schema.properties.iter().flatten().map(|(_, field)| field) {
        collect_rules(rules, field);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        collect_rules(rules, item);
    }
}
