//! Quantities of the API as whole numbers. What validation has let through is one; anything else counts as none.

use crate::quantity::{parse_milli, parse_whole};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// A list of resources, as requests and limits are.
pub type ResourceList = BTreeMap<String, Quantity>;

/// Thousandths, rounded up.
pub fn milli(quantity: &Quantity) -> Option<u64> {
    parse_milli(&quantity.0).ok()
}

/// Whole units, rounded up.
pub fn whole(quantity: &Quantity) -> Option<u64> {
    parse_whole(&quantity.0).ok()
}

/// `cpu` of a list, in thousandths.
pub fn cpu_milli(list: Option<&ResourceList>) -> Option<u64> {
    list.and_then(|list| list.get("cpu")).and_then(milli)
}

/// `memory` of a list, in bytes.
pub fn memory_bytes(list: Option<&ResourceList>) -> Option<u64> {
    list.and_then(|list| list.get("memory")).and_then(whole)
}

/// `ephemeral-storage` of a list, in bytes.
pub fn storage_bytes(list: Option<&ResourceList>) -> Option<u64> {
    list.and_then(|list| list.get("ephemeral-storage")).and_then(whole)
}
