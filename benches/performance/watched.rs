//! One object, from just before its creation until a watch shows what is waited for.

use std::fmt::Debug;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support::SOON;

/// What a watch showed, and how long after the creation was begun.
pub struct Shown(Vec<(Duration, Value)>);

impl Shown {
    /// The time until `wanted` held for the first time.
    pub fn until(&self, wanted: impl Fn(&Value) -> bool) -> Option<Duration> {
        self.0.iter().find(|(_, object)| wanted(object)).map(|(after, _)| *after)
    }
}

/// Opens a watch, creates the object, and reads on until `done` holds.
///
/// # Panics
/// When that does not come, with what the watch showed last.
pub async fn create<K>(api: &Api<K>, name: &str, object: &K, done: impl Fn(&Value) -> bool) -> Shown
where
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    let nothing = ListParams::default().fields(&format!("metadata.name={name}"));
    let version = api.list(&nothing).await.unwrap().metadata.resource_version.unwrap_or_default();
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = pin!(api.watch(&only, &version).await.unwrap());
    // The watch has taken the open connection: another handshake is not a part of what is measured.
    assert!(api.get_opt(name).await.unwrap().is_none(), "{name} is there already");
    let started = Instant::now();
    let mut shown = Shown(Vec::new());
    let seen = async {
        api.create(&PostParams::default(), object).await.unwrap();
        while let Some(event) = events.next().await {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event.unwrap() else { continue };
            let after = started.elapsed();
            let object = serde_json::to_value(object).unwrap();
            let last = done(&object);
            shown.0.push((after, object));
            if last {
                return;
            }
        }
    };
    let came = tokio::time::timeout(4 * SOON, seen).await;
    assert!(came.is_ok(), "what was waited for did not come; {name} last: {:?}", shown.0.last());
    shown
}
