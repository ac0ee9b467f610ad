//! Quantities of the API as whole numbers. What validation has let through is one; anything else counts as none.

use crate::quantity::{parse_milli, parse_whole};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// A list of resources, as requests and limits are.
pub type ResourceList = BTreeMap<String, Quantity>;

/// How the name of a resource of huge pages begins; the page size follows, as in `hugepages-2Mi`.
pub const HUGE_PAGES: &str = "hugepages-";

/// The page size of a resource of huge pages, bytes.
pub fn page_bytes(name: &str) -> Option<u64> {
    parse_whole(name.strip_prefix(HUGE_PAGES)?).ok().filter(|bytes| *bytes > 0)
}

/// Huge pages of a size, in bytes, as nodes name the resource.
pub fn pages_of(page_bytes: u64) -> String {
    format!("{HUGE_PAGES}{}", in_units(page_bytes))
}

/// Bytes in the largest unit of which they are a whole number.
pub fn in_units(bytes: u64) -> String {
    let units = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let whole = |shift: u32| bytes > 0 && bytes.trailing_zeros() >= shift;
    let unit = units.into_iter().find(|(shift, _)| whole(*shift));
    unit.map_or(bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_largest_whole_unit() {
        for (amount, text) in
            [(0, "0"), (1023, "1023"), (1024, "1Ki"), (5 << 20, "5Mi"), (1 << 40, "1024Gi")]
        {
            assert_eq!(in_units(amount), text);
        }
    }

    #[test]
    fn a_resource_of_huge_pages_tells_the_size_of_a_page() {
        for (name, size) in [
            ("hugepages-2Mi", Some(2 << 20)),
            ("hugepages-2048Ki", Some(2 << 20)),
            ("hugepages-1Gi", Some(1 << 30)),
            ("hugepages-0", None),
            ("hugepages-", None),
            ("memory", None),
        ] {
            assert_eq!(page_bytes(name), size, "{name}");
        }
        assert_eq!(pages_of(2 << 20), "hugepages-2Mi");
    }
}
