//! What the tests send: the fields of requests that had a value other than the default one.
//!
//! A row of docs/conformance.md that calls a field honoured names a test that shows it. That test at
//! least has to send the field.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value};
use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, PoisonError};

/// The interface as it was compiled.
pub(crate) static INTERFACE: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let compiled = &include_bytes!(concat!(env!("OUT_DIR"), "/cri.bin"))[..];
    DescriptorPool::decode(compiled).unwrap_or_default()
});

static SENT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Remembers the fields of a request. Their paths begin with the method's name.
pub(crate) fn record<T: Message>(request: &T) {
    let name = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
    let Some(descriptor) = INTERFACE.get_message_by_name(&format!("runtime.v1.{name}")) else {
        return;
    };
    let method = name.trim_end_matches("Request");
    if let Ok(message) = DynamicMessage::decode(descriptor, request.encode_to_vec().as_slice()) {
        let mut sent = SENT.lock().unwrap_or_else(PoisonError::into_inner);
        fields_of(&message, method, &mut sent);
    }
}

/// The fields sent since it was last asked.
pub(crate) fn take() -> BTreeSet<String> {
    std::mem::take(&mut SENT.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The paths of all values in a message.
fn fields_of(message: &DynamicMessage, path: &str, into: &mut BTreeSet<String>) {
    for (field, value) in message.fields() {
        let path = format!("{path}.{}", field.name());
        match value {
            Value::Message(inner) => fields_of(inner, &path, into),
            Value::List(list) => {
                for value in list {
                    match value {
                        Value::Message(inner) => fields_of(inner, &path, into),
                        _ => drop(into.insert(path.clone())),
                    }
                }
            }
            _ => drop(into.insert(path)),
        }
    }
}

/// The paths of all fields that are no messages, below a path.
pub(crate) fn all_fields(descriptor: &MessageDescriptor, path: &str, into: &mut Vec<String>) {
    for field in descriptor.fields() {
        let path = format!("{path}.{}", field.name());
        match field.kind() {
            Kind::Message(inner) if !field.is_map() => all_fields(&inner, &path, into),
            _ => into.push(path),
        }
    }
}
