//! A cache that follows a watch, and what of that is news.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use kube::Resource;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::Event;

/// What has come of an object; the cache has it so already.
#[derive(Clone, Debug)]
pub enum News<K> {
    /// It was not known.
    New(Arc<K>),
    /// It is not what it was.
    Changed(Arc<K>),
    /// It is gone: also while the watch was away.
    Gone(Arc<K>),
}

/// The objects of a kind, as a watch brings them.
#[derive(Debug)]
pub struct Cache<K: Resource<DynamicType = ()> + Clone + 'static> {
    writer: Writer<K>,
    /// Whether an object is not what it was, as far as anybody is to be told.
    differs: fn(&K, &K) -> bool,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Cache<K> {
    /// An empty one, and where it is read.
    pub fn new(differs: fn(&K, &K) -> bool) -> (Store<K>, Self) {
        let (store, writer) = store();
        (store, Self { writer, differs })
    }

    /// Takes in what the watch says. What a list brings is told when all of it is there: before, whoever looks sees what was.
    pub fn take(&mut self, event: &Event<K>) -> Vec<News<K>> {
        let store = self.writer.as_reader();
        let differs = self.differs;
        let news = |known: Option<Arc<K>>, object: Arc<K>| match known {
            None => vec![News::New(object)],
            Some(known) if known.meta().uid != object.meta().uid => vec![News::Gone(known), News::New(object)],
            Some(known) if differs(&known, &object) => vec![News::Changed(object)],
            Some(_) => Vec::new(),
        };
        let get = |object: &K| store.get(&ObjectRef::from_obj(object));
        match event {
            Event::Apply(object) => {
                let known = get(object);
                self.writer.apply_watcher_event(event);
                get(object).map(|object| news(known, object)).unwrap_or_default()
            }
            Event::Delete(object) => {
                self.writer.apply_watcher_event(event);
                vec![News::Gone(Arc::new(object.clone()))]
            }
            Event::InitDone => {
                let named = |object: Arc<K>| (ObjectRef::from_obj(object.as_ref()), object);
                let mut known: HashMap<_, _> = store.state().into_iter().map(named).collect();
                self.writer.apply_watcher_event(event);
                let listed = store.state().into_iter().map(named);
                let mut told: Vec<_> = listed.flat_map(|(name, object)| news(known.remove(&name), object)).collect();
                told.extend(known.into_values().map(News::Gone));
                told
            }
            Event::Init | Event::InitApply(_) => {
                self.writer.apply_watcher_event(event);
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;

    fn object(name: &str, uid: &str, generation: i64) -> ConfigMap {
        let metadata = json!({ "name": name, "namespace": "shop", "uid": uid, "generation": generation });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    #[test]
    fn what_is_news_is_told_once_and_only_when_the_cache_has_it() {
        let (store, mut cache) = Cache::new(|a: &ConfigMap, b| a.metadata.generation != b.metadata.generation);
        let mut take = |event: Event<ConfigMap>| {
            let of = |object: &Arc<ConfigMap>| object.name_any();
            let told = cache.take(&event).into_iter().map(|news| match &news {
                News::New(object) => format!("new {}", of(object)),
                News::Changed(object) => format!("changed {}", of(object)),
                News::Gone(object) => format!("gone {}", of(object)),
            });
            let mut told: Vec<_> = told.collect();
            told.sort_unstable();
            told
        };
        let nothing = [""; 0];
        assert_eq!(take(Event::Init), nothing);
        assert_eq!(take(Event::InitApply(object("a", "1", 1))), nothing);
        assert_eq!(take(Event::InitApply(object("b", "1", 1))), nothing);
        assert_eq!(take(Event::InitDone), ["new a", "new b"]);
        assert_eq!(take(Event::Apply(object("a", "1", 1))), nothing);
        assert_eq!(take(Event::Apply(object("a", "1", 2))), ["changed a"]);
        assert_eq!(take(Event::Apply(object("c", "1", 1))), ["new c"]);
        assert_eq!(take(Event::Apply(object("d", "0", 1))), ["new d"]);
        assert_eq!(take(Event::Delete(object("d", "0", 1))), ["gone d"]);
        // The watch was away: what it missed is told like the rest.
        assert_eq!(take(Event::Init), nothing);
        for listed in [object("a", "1", 3), object("c", "2", 1), object("d", "1", 1)] {
            assert_eq!(take(Event::InitApply(listed)), nothing);
        }
        assert_eq!(store.get(&ObjectRef::new("a").within("shop")).unwrap().metadata.generation, Some(2));
        assert_eq!(take(Event::InitDone), ["changed a", "gone b", "gone c", "new c", "new d"]);
        assert_eq!(store.len(), 3);
    }
}
