use belay::api::Reason;
use belay::postgres::{Engine, PostgresError, Target};

use crate::support::postgres::Postgres;

async fn refusal(url: &str) -> PostgresError {
    Engine::connect(Target::from_url(url).unwrap(), "belay/test").await.expect_err("it is refused")
}

#[tokio::test]
async fn a_plain_owner_connects_and_learns_which_server_it_is() {
    let database = Postgres::shared().database().await;
    let engine = database.engine().await;
    let identity = engine.identity();
    assert_eq!(identity.database, database.name);
    assert!(identity.system_identifier.as_deref().is_some_and(|id| id.parse::<u64>().is_ok()));
    assert!(identity.server_version_num >= 140_000 && identity.database_oid > 0);
    assert!(!identity.server_version.contains(' '), "{}", identity.server_version);
}

#[tokio::test]
async fn what_is_wrong_with_a_connection_has_its_own_reason_and_shows_no_password() {
    let database = Postgres::shared().database().await;
    let (role, password, name) = (&database.role, &database.password, &database.name);
    let port = Postgres::shared().port;
    let at = |login: &str, host: &str| format!("postgres://{login}@{host}/{name}?sslmode=disable");
    let (own, here) = (format!("{role}:{password}"), format!("127.0.0.1:{port}"));
    for (url, reason, next) in [
        (at(&format!("{role}:hunter2"), &here), Reason::AuthenticationFailed, "Correct the user or the password."),
        (at(&format!("nobody:{password}"), &here), Reason::AuthenticationFailed, "Correct the user or the password."),
        (at(role, &here), Reason::AuthenticationFailed, "Correct the user or the password."),
        // No socket there.
        (at(&own, &here).replace("127.0.0.1", "%2Fnowhere"), Reason::ConnectionFailed, "Check host, port"),
        (at(&own, &here).replace(&format!("/{name}?"), "/nowhere?"), Reason::ConnectionFailed, "correct dbname"),
        (at(&own, "127.0.0.1:1"), Reason::ConnectionFailed, "Check host, port and network policies"),
        (at(&own, &format!("no.invalid:{port}")), Reason::ConnectionFailed, "Check host, port and network policies"),
        // The server has no certificate; and without a word, verify-full is asked.
        (at(&own, &here).replace("?sslmode=disable", ""), Reason::TlsFailed, "Turn ssl on at the server"),
    ] {
        let error = refusal(&url).await;
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(next), "{next:?} is not in {error}");
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains(password.as_str()) && !text.contains("hunter2"), "{text}");
        }
    }
}

#[tokio::test]
async fn who_may_not_connect_is_told_the_grant() {
    let database = Postgres::shared().database().await;
    let name = &database.name;
    let revoke = format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC; CREATE ROLE {name}_guest LOGIN PASSWORD 'x'");
    database.admin(&revoke).await;
    let port = Postgres::shared().port;
    let error = refusal(&format!("postgres://{name}_guest:x@127.0.0.1:{port}/{name}?sslmode=disable")).await;
    assert_eq!(error.reason(), Reason::PermissionDenied);
    let grant = format!("GRANT CONNECT ON DATABASE \"{name}\" TO \"{name}_guest\";");
    assert!(error.to_string().contains(&grant), "{error}");
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_refused() {
    let database = Postgres::shared().database().await;
    database.admin(&format!("ALTER ROLE {} SET default_transaction_read_only = on", database.role)).await;
    let error = refusal(&database.url).await;
    assert_eq!(error.reason(), Reason::ReadOnlyServer);
    assert!(error.is_transient());
    // At the primary, which it may be, there would be no other to connect to.
    assert!(error.to_string().ends_with("for the server, the database or the login. Turn it off there."), "{error}");
}

#[tokio::test]
async fn a_role_that_is_missing_or_not_ours_is_named_with_its_grant() {
    let database = Postgres::shared().database().await;
    let mut target = database.target();
    target.role = Some("ghost".into());
    let error = Engine::connect(target, "belay/test").await.unwrap_err();
    assert_eq!(error.reason(), Reason::PermissionDenied);
    assert!(error.to_string().contains("ghost"), "{error}");

    database.admin(&format!("CREATE ROLE {}_app", database.name)).await;
    let mut target = database.target();
    target.role = Some(format!("{}_app", database.name));
    let error = Engine::connect(target, "belay/test").await.unwrap_err();
    let grant = format!("GRANT \"{}_app\" TO \"{}\"", database.name, database.role);
    assert!(error.to_string().contains(&grant), "{error}");
}

#[tokio::test]
async fn without_pg_control_system_the_rest_works_and_the_grant_is_named() {
    let database = Postgres::shared().database().await;
    // The right is each database's own.
    database.admin("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC").await;
    let engine = database.engine().await;
    assert_eq!(engine.identity().system_identifier, None);
    let grant = engine.identity().missing_grant(engine.target().user()).unwrap();
    assert_eq!(grant, format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO \"{}\";", database.role));
}

#[tokio::test]
async fn the_session_is_named_after_the_run() {
    let database = Postgres::shared().database().await;
    let _engine = Engine::connect(database.target(), "belay/7f3a2/shop/shop").await.unwrap();
    let query = format!("SELECT application_name FROM pg_stat_activity WHERE usename = '{}'", database.role);
    assert_eq!(database.value(&query).await.as_deref(), Some("belay/7f3a2/shop/shop"));
}
