//! `belay crds`: the CustomResourceDefinitions, for `kubectl apply -f -`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::yaml;
use crate::api;

/// All of them, as YAML documents in the order of their names.
///
/// # Errors
/// When one does not serialize.
pub fn render() -> Result<String, serde_yaml::Error> {
    api::crds().iter().map(|crd| Ok(format!("---\n{}", yaml::to_string(crd)?))).collect()
}

/// One file a kind: its name, as `crds/` has it, and its text.
///
/// # Errors
/// When one does not serialize.
pub fn files() -> Result<Vec<(String, String)>, serde_yaml::Error> {
    api::crds().iter().map(|crd| Ok((file_name(crd), yaml::to_string(crd)?))).collect()
}

fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.yaml", crd.spec.names.plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yaml_1_1_reader_reads_the_crds_that_were_written() {
        let options = || serde_saphyr::options! { strict_booleans: false, legacy_octal_numbers: true };
        for (crd, (name, text)) in api::crds().iter().zip(files().unwrap()) {
            let read: serde_json::Value = serde_saphyr::from_str_with_options(&text, options()).unwrap();
            assert_eq!(read, serde_json::to_value(crd).unwrap(), "{name}");
        }
    }
}
