//! diesel: a folder `<version>_<name>` with `up.sql`, `down.sql` and `metadata.toml`. The version may be a date with
//! hyphens, which diesel itself leaves out: `2024-01-01-000000_create_users/up.sql` is 20240101000000.

use super::{Fault, Named, Rules, whole};

pub(super) const RULES: Rules = Rules { form: "<version>_<description>/up.sql", name, sections: whole, settings };

/// What a folder may hold.
pub(super) const FILES: &[&str] = &["up.sql", "down.sql", "metadata.toml"];

fn name(name: &str) -> Named {
    let Some((folder, file)) = name.split_once('/') else {
        return match name.ends_with(".sql") {
            true => {
                Named::Wrong("it lies in no folder of its own; as a key of a ConfigMap: <folder>__up.sql".to_owned())
            }
            false => Named::Ignored,
        };
    };
    if !FILES.contains(&file) {
        return Named::Ignored;
    }
    match folder_name(folder) {
        Err(why) => Named::Wrong(why),
        Ok((version, description)) => match file {
            "up.sql" => Named::Script { version, description },
            "down.sql" => Named::Down { version },
            _ => Named::Settings { script: format!("{folder}/up.sql") },
        },
    }
}

/// The digits of `2024-01-01-000000_name`, joined, and the name.
fn folder_name(folder: &str) -> Result<(String, String), String> {
    let (version, description) = folder
        .split_once('_')
        .filter(|(_, description)| !description.is_empty())
        .ok_or_else(|| "behind the version come an underscore and a description".to_owned())?;
    let digits: String = version.split('-').collect();
    match !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && !version.starts_with('-') {
        true => Ok((digits, description.to_owned())),
        false => Err("the folder does not begin with a version in digits and hyphens".to_owned()),
    }
}

fn settings(text: &str) -> Result<bool, Fault> {
    // diesel reads a file without the setting as one that has it as false.
    let mut outside = true;
    for (n, line) in text.lines().enumerate() {
        let line_number = u32::try_from(n + 1).unwrap_or(u32::MAX);
        let setting = line.split('#').next().unwrap_or_default().trim();
        match setting.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            _ if setting.is_empty() => {}
            Some(("run_in_transaction", "false")) => outside = true,
            Some(("run_in_transaction", "true")) => outside = false,
            _ => {
                let why = "the only setting that Belay knows here is run_in_transaction, true or false".to_owned();
                return Err(Fault { line: line_number, why });
            }
        }
    }
    Ok(outside)
}
