//! Whether a database is still the one that it was: the same server, the same database on it, and a ledger that did not go
//! backwards. Anything else stalls until a person accepts it: a Secret that points elsewhere, a restore that nobody told
//! Belay of.

use super::migration::Trouble;
use crate::api::{ACCEPT, PostgresDatabase, PostgresDatabaseStatus, Reason};
use crate::postgres::Identity;
use crate::script::Version;

/// What a Database was when it was last seen and taken for itself. What is not known does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pin {
    pub system_identifier: Option<String>,
    pub database_oid: Option<u32>,
    /// The highest version that its ledger showed.
    pub version: Option<Version>,
}

impl Pin {
    /// As a status has it.
    pub fn of(status: &PostgresDatabaseStatus) -> Self {
        Self {
            system_identifier: status.system_identifier.clone(),
            database_oid: status.database_oid,
            version: status.version.as_ref().and_then(|version| version.parse().ok()),
        }
    }

    /// As it is seen now.
    pub fn seen(identity: &Identity, version: Option<&Version>) -> Self {
        Self {
            system_identifier: identity.system_identifier.clone(),
            database_oid: Some(identity.database_oid),
            version: version.cloned(),
        }
    }

    /// As the annotation [`ACCEPT`] names it: `<systemIdentifier>/<oid>/<version>`, each a `-` when there is none.
    fn text(&self) -> String {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        format!(
            "{}/{}/{}",
            or_dash(self.system_identifier.clone()),
            or_dash(self.database_oid.map(|oid| oid.to_string())),
            or_dash(self.version.as_ref().map(ToString::to_string)),
        )
    }
}

/// Whether what is `seen` may be taken for the database that was pinned. True: only because a person accepts it.
///
/// # Errors
/// IdentityChanged or LedgerWentBack, with the command that accepts it.
pub fn check(database: &PostgresDatabase, pinned: &Pin, seen: &Pin) -> Result<bool, Trouble> {
    let (namespace, name) = (
        database.metadata.namespace.as_deref().unwrap_or_default(),
        database.metadata.name.as_deref().unwrap_or_default(),
    );
    // Nothing accepts what the spec itself rules out.
    if let Some(expected) = database.spec.expect.as_ref().map(|expect| &expect.system_identifier)
        && seen.system_identifier.as_ref() != Some(expected)
    {
        let is = match &seen.system_identifier {
            Some(is) => format!("but {is} answers"),
            None => {
                "but the login may not ask for it (GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system())".to_owned()
            }
        };
        return Err(Trouble {
            reason: Reason::IdentityChanged,
            message: format!(
                "PostgresDatabase {name}: spec.expect.systemIdentifier is {expected}, {is}. Point the connection at the right \
                 server, or correct spec.expect"
            ),
        });
    }
    let Some((reason, what)) = difference(pinned, seen) else { return Ok(false) };
    if database.metadata.annotations.as_ref().and_then(|all| all.get(ACCEPT)) == Some(&seen.text()) {
        return Ok(true);
    }
    Err(Trouble {
        reason,
        message: format!(
            "PostgresDatabase {name}: {what}. Find out why; if it is right so: kubectl -n {namespace} annotate \
             postgresdatabase {name} --overwrite {ACCEPT}={}",
            seen.text()
        ),
    })
}

fn difference(pinned: &Pin, seen: &Pin) -> Option<(Reason, String)> {
    if let (Some(was), Some(is)) = (&pinned.system_identifier, &seen.system_identifier)
        && was != is
    {
        return Some((
            Reason::IdentityChanged,
            format!("another server answers: its system identifier is {is}, and was {was}"),
        ));
    }
    if let (Some(was), Some(is)) = (pinned.database_oid, seen.database_oid)
        && was != is
    {
        return Some((
            Reason::IdentityChanged,
            format!("it is another database on the same server: its OID is {is}, and was {was}"),
        ));
    }
    let was = pinned.version.as_ref()?;
    match &seen.version {
        Some(is) if is >= was => None,
        Some(is) => {
            Some((Reason::LedgerWentBack, format!("its ledger shows {is}, and has shown {was}: somebody restored it")))
        }
        None => Some((
            Reason::LedgerWentBack,
            format!("its ledger is empty or gone, and has shown {was}: somebody restored it"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(system: Option<&str>, oid: u32, version: Option<&str>) -> Pin {
        Pin {
            system_identifier: system.map(str::to_owned),
            database_oid: Some(oid),
            version: version.map(|version| version.parse().unwrap()),
        }
    }

    fn database(accept: Option<&str>, expect: Option<&str>) -> PostgresDatabase {
        let mut database: PostgresDatabase = serde_json::from_value(serde_json::json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase",
            "metadata": { "name": "shop", "namespace": "shop" },
            "spec": { "connection": { "secretRef": { "name": "shop" } } },
        }))
        .unwrap();
        database.metadata.annotations = accept.map(|accept| [(ACCEPT.to_owned(), accept.to_owned())].into());
        database.spec.expect = expect.map(|system| crate::api::Expect { system_identifier: system.to_owned() });
        database
    }

    #[test]
    fn the_same_database_with_a_ledger_that_went_on_is_itself() {
        for (pinned, seen) in [
            (Pin::default(), pin(Some("7"), 1, None)),
            (pin(Some("7"), 1, None), pin(Some("7"), 1, Some("3"))),
            (pin(Some("7"), 1, Some("3")), pin(Some("7"), 1, Some("003"))),
            (pin(Some("7"), 1, Some("9")), pin(Some("7"), 1, Some("10"))),
            // A GRANT was given, or taken.
            (pin(None, 1, None), pin(Some("7"), 1, None)),
            (pin(Some("7"), 1, None), pin(None, 1, None)),
        ] {
            assert_eq!(check(&database(None, None), &pinned, &seen), Ok(false), "{pinned:?} {seen:?}");
        }
    }

    #[test]
    fn anything_else_stalls_until_just_that_is_accepted() {
        let pinned = pin(Some("7"), 1, Some("3"));
        for (seen, reason, accept) in [
            (pin(Some("8"), 1, Some("3")), Reason::IdentityChanged, "8/1/3"),
            (pin(Some("7"), 2, Some("4")), Reason::IdentityChanged, "7/2/4"),
            (pin(Some("7"), 1, Some("2")), Reason::LedgerWentBack, "7/1/2"),
            (pin(Some("7"), 1, None), Reason::LedgerWentBack, "7/1/-"),
            (pin(None, 2, None), Reason::IdentityChanged, "-/2/-"),
        ] {
            let trouble = check(&database(None, None), &pinned, &seen).unwrap_err();
            assert_eq!(trouble.reason, reason, "{seen:?}");
            assert!(trouble.message.ends_with(&format!("{ACCEPT}={accept}")), "{}", trouble.message);
            assert_eq!(check(&database(Some(accept), None), &pinned, &seen), Ok(true));
            assert_eq!(check(&database(Some("7/1/3"), None), &pinned, &seen).unwrap_err().reason, reason);
        }
    }

    #[test]
    fn an_expected_server_is_asked_for_from_the_first_contact_and_nothing_overrules_it() {
        let seen = pin(Some("8"), 1, None);
        let refused = check(&database(Some("8/1/-"), Some("7")), &Pin::default(), &seen).unwrap_err();
        assert_eq!(refused.reason, Reason::IdentityChanged);
        assert_eq!(check(&database(None, Some("8")), &Pin::default(), &seen), Ok(false));
        let unknown = check(&database(None, Some("8")), &Pin::default(), &pin(None, 1, None)).unwrap_err();
        assert!(unknown.message.contains("GRANT EXECUTE"), "{}", unknown.message);
    }
}
