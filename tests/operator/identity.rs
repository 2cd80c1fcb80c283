//! The same server, the same database, a ledger that went forward: anything else waits for a person.

use serde_json::json;

use crate::shop::{Shop, ready};
use crate::support::postgres::Postgres;

const ONE: [(&str, &str); 1] = [("001_a.sql", "create table a ();")];
const TWO: [(&str, &str); 2] = [ONE[0], ("002_b.sql", "create table b ();")];

/// What the message says that accepts it, as the annotation has it.
fn accept(message: &str) -> String {
    let (_, command) = message.split_once("belay.dev/accept=").unwrap_or_else(|| panic!("{message}"));
    command.split(['.', ' ']).next().unwrap_or_default().to_owned()
}

impl Shop {
    fn annotate(&self, accept: &str) {
        let annotation = format!("belay.dev/accept={accept}");
        self.namespace.kubectl(&["annotate", "postgresdatabase", "shop", "--overwrite", &annotation]);
    }
}

#[tokio::test]
async fn a_secret_that_points_elsewhere_stalls_until_a_person_accepts_just_that_database() {
    let mut shop = Shop::new("elsewhere").await;
    let _operator = shop.operator();
    shop.migrate(&ONE).await;
    shop.reason("Succeeded").await;
    shop.pinned("001").await;

    let server = Postgres::start();
    let first = std::mem::replace(&mut shop.database, server.database().await);
    shop.apply_secret().await;
    shop.migrate(&TWO).await;
    let status = shop.reason("IdentityChanged").await;
    let message = ready(&status)["message"].as_str().unwrap_or_default();
    assert!(message.contains("another server answers") && message.contains("Nothing was run"), "{message}");
    assert_eq!((shop.tables().await, shop.ledger().await), (String::new(), String::new()), "it is untouched");
    let database = shop.namespace.get("PostgresDatabase", "shop").await.unwrap();
    assert_eq!(database["status"]["version"], "001", "what was known stays");

    shop.annotate(&accept(message).replace("/-", "/001"));
    shop.reason("IdentityChanged").await;
    shop.annotate(&accept(message));
    shop.reason("Succeeded").await;
    assert_eq!(shop.tables().await, "a,b");
    assert_eq!(first.value("select to_regclass('b')::text").await, None);
    shop.pinned("002").await;
}

#[tokio::test]
async fn a_ledger_that_went_back_stalls_until_a_person_accepts_it() {
    let shop = Shop::new("back").await;
    let _operator = shop.operator();
    shop.migrate(&TWO).await;
    shop.reason("Succeeded").await;
    shop.pinned("002").await;
    // As a restore of yesterday's backup leaves it.
    shop.database.admin("drop table b; delete from belay.history where version = '002'").await;
    let three = [TWO[0], TWO[1], ("003_c.sql", "create table c ();")];
    shop.migrate(&three).await;
    let status = shop.reason("LedgerWentBack").await;
    let message = ready(&status)["message"].as_str().unwrap_or_default();
    assert!(message.contains("shows 001, and has shown 002"), "{message}");
    assert_eq!(shop.tables().await, "a");
    shop.annotate(&accept(message));
    shop.reason("Succeeded").await;
    assert_eq!(shop.tables().await, "a,b,c");
}

#[tokio::test]
async fn an_expected_server_is_asked_for_from_the_first_contact() {
    let shop = Shop::new("expect").await;
    shop.apply_database(json!({ "expect": { "systemIdentifier": "1" } })).await;
    let _operator = shop.operator();
    shop.migrate(&ONE).await;
    let status = shop.reason("IdentityChanged").await;
    let message = ready(&status)["message"].as_str().unwrap_or_default();
    assert!(message.contains("spec.expect.systemIdentifier is 1"), "{message}");
    assert_eq!((shop.tables().await, shop.ledger().await), (String::new(), String::new()));
    shop.database.admin(&format!("grant execute on function pg_control_system() to {}", shop.database.role)).await;
    let identifier = shop.database.value("select system_identifier::text from pg_control_system()").await.unwrap();
    shop.apply_database(json!({ "expect": { "systemIdentifier": identifier } })).await;
    shop.reason("Succeeded").await;
}
