//! ConfigMaps, Secrets and Services that pods of their namespace may name.
//!
//! A snapshot: whoever learns of a change replaces the whole. Where they come from (the manifest directories,
//! an apiserver) is not known here.

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Namespace and name.
type Key = (String, String);

/// Every object there is, by namespace and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    config_maps: BTreeMap<Key, Arc<ConfigMap>>,
    secrets: BTreeMap<Key, Arc<Secret>>,
    services: BTreeMap<Key, Arc<Service>>,
}

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

fn key(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Key {
    let namespace = metadata.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    (namespace, metadata.name.clone().unwrap_or_default())
}

impl Objects {
    /// Adds or replaces a ConfigMap.
    pub fn put_config_map(&mut self, object: ConfigMap) {
        self.config_maps.insert(key(&object.metadata), Arc::new(object));
    }

    /// Adds or replaces a Secret.
    pub fn put_secret(&mut self, object: Secret) {
        self.secrets.insert(key(&object.metadata), Arc::new(object));
    }

    /// Adds or replaces a Service.
    pub fn put_service(&mut self, object: Service) {
        self.services.insert(key(&object.metadata), Arc::new(object));
    }

    /// Takes what `other` has; an object of both is the other's.
    pub fn extend(&mut self, other: &Self) {
        self.config_maps.extend(other.config_maps.clone());
        self.secrets.extend(other.secrets.clone());
        self.services.extend(other.services.clone());
    }

    /// A ConfigMap.
    pub fn config_map(&self, namespace: &str, name: &str) -> Option<&Arc<ConfigMap>> {
        self.config_maps.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// A Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Arc<Secret>> {
        self.secrets.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The Services of a namespace, by name.
    pub fn services<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Service>> {
        let of = self.services.iter().filter(move |((of, _), _)| of == namespace);
        of.map(|(_, service)| service)
    }

    /// A Service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.services.get(&(namespace.to_owned(), name.to_owned()))
    }
}
