//! Leader election: of several replicas, the one that holds the Lease acts. The others keep their caches warm.
//!
//! The rules are those of client-go, and so are the times. No two clocks are compared: a Lease has run out when it has
//! not changed for its duration by the onlooker's own clock, and each write names the version that it replaces.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long a Lease holds that is not renewed: after a leader's death, nobody acts for so long, and one try more.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long stops acting: what it has sent last then arrives before another may lead.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries, to renew as well as to take: also what a graceful stop costs.
const EVERY: Duration = Duration::from_secs(2);
/// One try. A connection that swallows everything then leaves time for others.
const TRY: Duration = Duration::from_secs(3);

/// Where the Lease is, and under which name this replica stands.
#[derive(Clone, Debug)]
pub struct Candidacy {
    pub namespace: String,
    pub name: String,
    pub identity: String,
}

/// How a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    /// How often it was elected.
    term: u64,
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Follows,
    /// Until then; without an election, for ever.
    Leads(Option<Instant>),
}

/// Whether this replica acts. Every clone tells of the same one.
#[derive(Clone, Debug)]
pub struct Lead(watch::Sender<Standing>);

impl Lead {
    /// Without an election: it always acts.
    pub fn always() -> Self {
        Self(watch::Sender::new(Standing { term: 1, role: Role::Leads(None) }))
    }

    /// It does not act before it is elected.
    pub fn elected_only() -> Self {
        Self(watch::Sender::new(Standing { term: 0, role: Role::Follows }))
    }

    /// Whether it may act at this moment. The time is asked as well: a process that was stopped for a while must not act on
    /// what it held before.
    pub fn acts(&self) -> bool {
        match self.0.borrow().role {
            Role::Leads(until) => until.is_none_or(|until| Instant::now() < until),
            Role::Follows => false,
        }
    }

    /// How often it was elected so far.
    pub fn term(&self) -> u64 {
        self.0.borrow().term
    }

    /// Waits until it leads in a later term than `term`; gives that one.
    pub async fn elected_after(&self, term: u64) -> u64 {
        self.until(|standing| standing.term > term && standing.role != Role::Follows).await;
        self.term()
    }

    /// Waits until this term is over.
    pub async fn lost(&self, term: u64) {
        self.until(|standing| standing.term != term || standing.role == Role::Follows).await;
    }

    async fn until(&self, wanted: impl FnMut(&Standing) -> bool) {
        // The channel cannot close: this very handle sends on it.
        let _ = self.0.subscribe().wait_for(wanted).await;
    }

    /// It does not act any more, before it is elected anew.
    pub(super) fn give_up(&self) {
        self.0.send_modify(|standing| standing.role = Role::Follows);
    }

    pub(super) fn lead_until(&self, until: Instant) {
        self.0.send_modify(|standing| {
            if standing.role == Role::Follows {
                standing.term = standing.term.saturating_add(1);
            }
            standing.role = Role::Leads(Some(until));
        });
    }
}

/// What to do about the Lease as it was found.
#[derive(Clone, Debug, PartialEq)]
enum Move {
    /// There is none yet.
    Create(Lease),
    /// It is ours, or free, or has run out.
    Replace(Lease),
    /// Another holds it.
    Wait { holder: String },
}

/// What was seen of the Lease, and since when it has been so.
#[derive(Clone, Debug)]
struct Onlooker {
    identity: String,
    seen: Option<(LeaseSpec, Instant)>,
}

impl Onlooker {
    fn next(&mut self, found: Option<Lease>, now: Instant, time: Timestamp) -> Move {
        let Some(lease) = found else {
            return Move::Create(Lease { spec: Some(self.held(None, time)), ..Lease::default() });
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == spec => *since,
            _ => now,
        };
        self.seen = Some((spec.clone(), since));
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let promised = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = promised.map_or(DURATION, Duration::from_secs);
        if !holder.is_empty() && holder != self.identity && now.duration_since(since) < duration {
            return Move::Wait { holder };
        }
        // The version that was read goes along: if another was quicker, the API server says so.
        Move::Replace(Lease { spec: Some(self.held(Some(&spec), time)), ..lease })
    }

    /// The Lease as ours.
    fn held(&self, before: Option<&LeaseSpec>, time: Timestamp) -> LeaseSpec {
        let mut spec = before.cloned().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            spec.acquire_time = Some(MicroTime(time));
            spec.lease_transitions =
                before.map(|before| before.lease_transitions.unwrap_or_default().saturating_add(1));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.renew_time = Some(MicroTime(time));
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec
    }
}

/// What came of one try.
enum Tried {
    Held,
    Others { holder: String },
}

/// Takes the Lease when it can, renews it, and follows again when it is lost, until `leave`: then it is given back, so that
/// another takes over at once. `client` is the election's own: its requests must not queue behind others.
pub async fn campaign(candidacy: Candidacy, client: Client, lead: Lead, leave: CancellationToken) {
    let api = Api::<Lease>::namespaced(client, &candidacy.namespace);
    let mut onlooker = Onlooker { identity: candidacy.identity.clone(), seen: None };
    let place = format!("{}/{}", candidacy.namespace, candidacy.name);
    let stand = async {
        loop {
            let held = win(&api, &candidacy, &mut onlooker, &lead).await;
            tracing::info!(identity = candidacy.identity, "this replica leads: it holds Lease {place}");
            let why = keep(&api, &candidacy, &mut onlooker, &lead, held).await;
            lead.give_up();
            tracing::warn!(identity = candidacy.identity, "this replica does not lead any more: {why}");
        }
    };
    tokio::select! {
        () = stand => {}
        () = leave.cancelled() => {}
    }
    lead.give_up();
    match timeout(TRY, give_back(&api, &candidacy)).await {
        Ok(Ok(true)) => tracing::info!("Lease {place} is given back"),
        Ok(Ok(false)) => {}
        Ok(Err(error)) => tracing::warn!("Lease {place} could not be given back, and runs out: {error}"),
        Err(_) => tracing::warn!("Lease {place} could not be given back in time, and runs out"),
    }
}

/// Tries until the Lease is ours; gives the time from which it holds.
async fn win(api: &Api<Lease>, candidacy: &Candidacy, onlooker: &mut Onlooker, lead: &Lead) -> Instant {
    let mut said = String::new();
    loop {
        // From when it was asked for, not from when it was granted.
        let asked = Instant::now();
        let tried = timeout(TRY, attempt(api, candidacy, onlooker)).await;
        let well = matches!(tried, Ok(Ok(_)));
        let news = match tried {
            Ok(Ok(Tried::Held)) => {
                lead.lead_until(asked + RENEW_WITHIN);
                return asked;
            }
            Ok(Ok(Tried::Others { holder })) => format!("this replica follows: {holder} holds the Lease"),
            Ok(Err(error)) => format!("the Lease cannot be had, and nothing is done before it is: {}", words(error)),
            Err(_) => {
                "the Lease cannot be had, and nothing is done before it is: the API server does not answer".to_owned()
            }
        };
        if news != said {
            if well {
                tracing::info!(identity = candidacy.identity, "{news}");
            } else {
                tracing::warn!(identity = candidacy.identity, "{news}");
            }
            said = news;
        }
        sleep(EVERY).await;
    }
}

/// Renews until it cannot be done in time; says why.
async fn keep(
    api: &Api<Lease>,
    candidacy: &Candidacy,
    onlooker: &mut Onlooker,
    lead: &Lead,
    mut renewed: Instant,
) -> String {
    let mut last = "the API server does not answer".to_owned();
    loop {
        let end = renewed + RENEW_WITHIN;
        if timeout_at(end, sleep(EVERY)).await.is_err() || Instant::now() >= end {
            return format!("the Lease could not be renewed for {RENEW_WITHIN:?}: {last}");
        }
        let asked = Instant::now();
        match timeout_at(end.min(asked + TRY), attempt(api, candidacy, onlooker)).await {
            Ok(Ok(Tried::Held)) => {
                renewed = asked;
                lead.lead_until(renewed + RENEW_WITHIN);
            }
            Ok(Ok(Tried::Others { holder })) => return format!("{holder} has taken the Lease"),
            Ok(Err(error)) => last = words(error),
            Err(_) => {}
        }
    }
}

/// Reads the Lease, and writes what is to be done about it.
async fn attempt(api: &Api<Lease>, candidacy: &Candidacy, onlooker: &mut Onlooker) -> Result<Tried, kube::Error> {
    let found = api.get_opt(&candidacy.name).await?;
    match onlooker.next(found, Instant::now(), Timestamp::now()) {
        Move::Wait { holder } => return Ok(Tried::Others { holder }),
        Move::Create(mut lease) => {
            lease.metadata = ObjectMeta { name: Some(candidacy.name.clone()), ..ObjectMeta::default() };
            api.create(&PostParams::default(), &lease).await?;
        }
        Move::Replace(lease) => {
            api.replace(&candidacy.name, &PostParams::default(), &lease).await?;
        }
    }
    Ok(Tried::Held)
}

/// What the API server said; the rest of its answer is for machines.
fn words(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        error => error.to_string(),
    }
}

/// Lets go of the Lease, if it is still ours; whether it was.
async fn give_back(api: &Api<Lease>, candidacy: &Candidacy) -> Result<bool, kube::Error> {
    loop {
        let Some(mut lease) = api.get_opt(&candidacy.name).await? else { return Ok(false) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&candidacy.identity) {
            return Ok(false);
        }
        spec.holder_identity = Some(String::new());
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        match api.replace(&candidacy.name, &PostParams::default(), &lease).await {
            // A renewal of ours was still under way.
            Err(kube::Error::Api(error)) if error.code == 409 => {}
            result => return result.map(|_| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn onlooker(identity: &str) -> Onlooker {
        Onlooker { identity: identity.to_owned(), seen: None }
    }

    fn lease(of: &mut Onlooker, found: Option<Lease>, now: Instant, time: Timestamp) -> Lease {
        match of.next(found, now, time) {
            Move::Create(lease) | Move::Replace(lease) => lease,
            Move::Wait { holder } => panic!("{holder} holds it"),
        }
    }

    fn after(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn who_comes_first_holds_it_and_renews_it() {
        let (mut a, now) = (onlooker("a"), Instant::now());
        let first = lease(&mut a, None, now, after(0));
        let second = lease(&mut a, Some(first.clone()), now + EVERY, after(2));
        let (first, second) = (first.spec.unwrap(), second.spec.unwrap());
        assert_eq!(second.acquire_time, first.acquire_time);
        assert_eq!(second.renew_time, Some(MicroTime(after(2))));
        assert_eq!((second.holder_identity.as_deref(), second.lease_transitions), (Some("a"), None));
    }

    #[test]
    fn a_lease_runs_out_by_the_onlookers_own_clock_whatever_the_holders_says() {
        for skew in [-86_400, 0, 86_400] {
            let (mut a, mut b, now) = (onlooker("a"), onlooker("b"), Instant::now());
            let held = lease(&mut a, None, now, after(skew));
            assert_eq!(b.next(Some(held.clone()), now, after(0)), Move::Wait { holder: "a".to_owned() });
            let almost = now + DURATION - Duration::from_millis(1);
            assert_eq!(b.next(Some(held.clone()), almost, after(14)), Move::Wait { holder: "a".to_owned() });
            let taken = lease(&mut b, Some(held), now + DURATION, after(15)).spec.unwrap();
            assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("b"), Some(1)));
        }
    }

    #[test]
    fn every_renewal_that_is_seen_begins_the_wait_anew() {
        let (mut a, mut b, mut now) = (onlooker("a"), onlooker("b"), Instant::now());
        let mut held = lease(&mut a, None, now, after(0));
        for n in 1..10 {
            now += DURATION - Duration::from_secs(1);
            held = lease(&mut a, Some(held), now, after(14 * n));
            assert_eq!(b.next(Some(held.clone()), now, after(0)), Move::Wait { holder: "a".to_owned() });
        }
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once_and_over_the_version_that_was_read() {
        let mut b = onlooker("b");
        let mut free = Lease { spec: Some(LeaseSpec::default()), ..Lease::default() };
        free.metadata.resource_version = Some("7".to_owned());
        free.spec.as_mut().unwrap().holder_identity = Some(String::new());
        let taken = lease(&mut b, Some(free), Instant::now(), after(0));
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(taken.spec.unwrap().holder_identity.as_deref(), Some("b"));
    }

    #[test]
    fn a_leader_stops_to_act_before_another_may_lead() {
        assert!(RENEW_WITHIN + TRY < DURATION, "what was sent last needs time to arrive");
        assert!(EVERY + TRY < RENEW_WITHIN, "one try may fail");
    }

    #[tokio::test]
    async fn who_was_not_awake_to_renew_does_not_act_though_nobody_has_told_it() {
        let lead = Lead::elected_only();
        assert!(!lead.acts());
        lead.lead_until(Instant::now() + DURATION);
        assert!(lead.acts());
        lead.lead_until(Instant::now());
        assert!(!lead.acts());
    }

    #[tokio::test]
    async fn a_term_that_is_over_is_over_though_the_next_has_begun() {
        let lead = Lead::elected_only();
        lead.lead_until(Instant::now() + DURATION);
        let first = lead.elected_after(0).await;
        lead.lead_until(Instant::now() + DURATION);
        assert_eq!(lead.term(), first, "a renewal is no election");
        lead.give_up();
        lead.lead_until(Instant::now() + DURATION);
        lead.lost(first).await;
        assert_eq!(lead.elected_after(first).await, first + 1);
    }
}
