//! sqlx: `<version>_<description>.sql`, or `.up.sql` with `.down.sql`. A script whose very first characters are
//! `-- no-transaction` runs outside one.

use super::{Fault, Named, Rules, Sections, digits_and_name, golang_migrate, no_settings, strip_ending, whole};

pub(super) const RULES: Rules = Rules { form: "<version>_<description>.sql", name, sections, settings: no_settings };

/// What a script begins with that runs outside a transaction.
pub(super) const NO_TRANSACTION: &str = "-- no-transaction";

fn name(name: &str) -> Named {
    let Some(stem) = strip_ending(name, ".sql").filter(|_| !name.contains('/')) else { return Named::Ignored };
    if stem.ends_with(".up") || stem.ends_with(".down") {
        return golang_migrate::reversible(name);
    }
    match digits_and_name(stem) {
        _ if !name.ends_with(".sql") => Named::Wrong("its ending must be written .sql".to_owned()),
        Ok((version, description)) => Named::Script { version, description },
        Err(why) => Named::Wrong(why),
    }
}

fn sections(text: &str) -> Result<Sections, Fault> {
    Ok(Sections { no_transaction: text.starts_with(NO_TRANSACTION), ..whole(text)? })
}
