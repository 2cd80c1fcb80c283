//! Prisma: a folder `<time>_<name>` with `migration.sql`. It has no rollback, and one message a script.

use super::{Named, Rules, digits_and_name, no_settings, whole};

pub(super) const RULES: Rules =
    Rules { form: "<version>_<description>/migration.sql", name, sections: whole, settings: no_settings };

/// What a folder may hold.
pub(super) const FILES: &[&str] = &["migration.sql"];

fn name(name: &str) -> Named {
    let Some((folder, file)) = name.split_once('/') else {
        return match name.ends_with(".sql") {
            true => Named::Wrong(
                "it lies in no folder of its own; as a key of a ConfigMap: <folder>__migration.sql".to_owned(),
            ),
            false => Named::Ignored,
        };
    };
    if !FILES.contains(&file) {
        return Named::Ignored;
    }
    match digits_and_name(folder) {
        Ok((version, description)) => Named::Script { version, description },
        Err(why) => Named::Wrong(why),
    }
}
