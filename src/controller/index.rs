//! Which objects refer to which: looked up, where every event would else be compared with every object.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kube::{Resource, ResourceExt};

use super::cache::News;
use super::context::Watched;

/// The names of the objects that refer to an object of another kind, by the namespace that they share and that one's name.
///
/// An object that refers elsewhere by now, or is gone, may still be named: whoever looks it up sees what it says.
#[derive(Debug, Default)]
pub struct Index(Mutex<HashMap<(String, String), Names>>);

/// In order. Most objects are referred to by one.
type Names = Vec<Box<str>>;

impl Index {
    /// Follows a cache. `refers`: to whom an object does.
    pub fn follow<K: Resource>(&self, news: &News<Watched<K>>, refers: impl Fn(&K) -> Vec<String>)
    where
        Watched<K>: ResourceExt,
    {
        let (News::New(object) | News::Changed(object) | News::Gone(object)) = news;
        let Ok(readable) = &object.0 else { return };
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any().into_boxed_str());
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for to in refers(readable) {
            let key = (namespace.clone(), to);
            if !matches!(news, News::Gone(_)) {
                let names = index.entry(key).or_insert_with(|| Vec::with_capacity(1));
                if let Err(at) = names.binary_search(&name) {
                    names.insert(at, name.clone());
                }
            } else if let Some(names) = index.get_mut(&key) {
                names.retain(|known| *known != name);
                if names.is_empty() {
                    index.remove(&key);
                }
            }
        }
    }

    /// Who refers to `name`.
    pub fn of(&self, namespace: &str, name: &str) -> Vec<String> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        index.get(&(namespace.to_owned(), name.to_owned())).into_iter().flatten().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::api::Migration;
    use kube::core::DeserializeGuard;

    fn migration(name: &str, database: &str) -> Arc<Watched<Migration>> {
        Arc::new(DeserializeGuard(Ok(serde_json::from_value(serde_json::json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "databaseRef": { "name": database }, "source": { "inline": {} } },
        }))
        .unwrap())))
    }

    #[test]
    fn an_object_is_found_by_what_it_refers_to_until_it_is_gone() {
        let index = Index::default();
        let refers = |migration: &Migration| vec![migration.spec.database_ref.name.clone()];
        let follow = |news: News<Watched<Migration>>| index.follow(&news, refers);
        follow(News::New(migration("a", "one")));
        follow(News::New(migration("b", "one")));
        follow(News::Changed(migration("b", "one")));
        follow(News::New(migration("c", "two")));
        assert_eq!(index.of("shop", "one"), ["a", "b"]);
        assert_eq!(index.of("elsewhere", "one"), [""; 0]);
        follow(News::Gone(migration("a", "one")));
        assert_eq!(index.of("shop", "one"), ["b"]);
        follow(News::Gone(migration("b", "one")));
        assert_eq!(index.of("shop", "one"), [""; 0]);
    }
}
