//! A request with one more field than it has; and which fields are enumerations.

use anyhow::{Context as _, Result, bail};
use prost_reflect::prost::bytes::Bytes;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};

/// Gives a field a value that is not its default one. Messages on the way are made; of a list of them
/// the first one is changed.
///
/// # Errors
/// There is no such field.
pub(super) fn set(message: &mut DynamicMessage, path: &[&str]) -> Result<()> {
    put(message, path, &sample)
}

/// Gives an enumeration a value that it has not.
///
/// # Errors
/// There is no such field.
pub(super) fn set_out_of_range(message: &mut DynamicMessage, path: &[&str]) -> Result<()> {
    put(message, path, &|_| Ok(Value::EnumNumber(77)))
}

/// Whether a field is an enumeration.
pub(super) fn is_enumeration(message: &MessageDescriptor, path: &[&str]) -> bool {
    let Some((name, below)) = path.split_first() else { return false };
    match message.get_field_by_name(name).map(|field| field.kind()) {
        Some(Kind::Enum(_)) => below.is_empty(),
        Some(Kind::Message(inner)) => is_enumeration(&inner, below),
        _ => false,
    }
}

fn put(
    message: &mut DynamicMessage,
    path: &[&str],
    sample: &dyn Fn(&FieldDescriptor) -> Result<Value>,
) -> Result<()> {
    let (name, below) = path.split_first().context("an empty path")?;
    let field = message
        .descriptor()
        .get_field_by_name(name)
        .with_context(|| format!("{name} in {}", message.descriptor().full_name()))?;
    if below.is_empty() {
        let value = match (field.is_map(), field.is_list()) {
            (true, _) => {
                let word = || "sample".to_owned();
                Value::Map([(MapKey::String(word()), Value::String(word()))].into())
            }
            (_, true) => Value::List(vec![sample(&field)?]),
            _ => sample(&field)?,
        };
        message.set_field(&field, value);
        return Ok(());
    }
    match (field.kind(), message.get_field_mut(&field)) {
        (Kind::Message(_), Value::Message(inner)) => put(inner, below, sample),
        (Kind::Message(descriptor), Value::List(list)) => {
            if list.is_empty() {
                list.push(Value::Message(DynamicMessage::new(descriptor)));
            }
            let Some(Value::Message(first)) = list.first_mut() else { bail!("{name}: no message") };
            put(first, below, sample)
        }
        _ => bail!("{name} is no message"),
    }
}

fn sample(field: &FieldDescriptor) -> Result<Value> {
    Ok(match field.kind() {
        Kind::Bool => Value::Bool(true),
        Kind::Int32 => Value::I32(7),
        Kind::Int64 if field.name().ends_with("bytes") => Value::I64(1 << 24),
        Kind::Int64 => Value::I64(7),
        Kind::Uint32 => Value::U32(7),
        Kind::Uint64 => Value::U64(7),
        Kind::Enum(_) => Value::EnumNumber(1),
        Kind::Bytes => Value::Bytes(Bytes::from_static(b"sample")),
        Kind::String => Value::String(match field.name() {
            name if name.ends_with("path") || name.ends_with("directory") => "/sample".to_owned(),
            name if name.starts_with("cpuset") => "0".to_owned(),
            _ => "sample".to_owned(),
        }),
        kind => bail!("{}: a value of {kind:?}", field.full_name()),
    })
}
