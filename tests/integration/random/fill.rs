//! Random messages of a type.

use super::pool::Pool;
use proptest::prelude::{Rng as _, RngExt as _};
use proptest::test_runner::TestRng;
use prost_reflect::prost::bytes::Bytes;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, MethodDescriptor,
    ReflectMessage as _, Value,
};
use std::sync::Arc;

/// Deeper messages stay empty.
const DEPTH: u32 = 6;
const NUMBERS: &[i64] =
    &[0, 0, 1, 1, 2, -1, 77, 1_000, 65_535, 65_536, 1 << 30, 1 << 40, i64::MAX, i64::MIN];
const FLOATS: &[f64] = &[0.0, -1.0, 0.5, f64::INFINITY, f64::NAN];

/// Makes requests from a stream of random numbers.
pub(super) struct Filler {
    random: TestRng,
    pool: Arc<Pool>,
    method: String,
}

impl Filler {
    pub(super) fn new(random: TestRng, pool: Arc<Pool>) -> Self {
        Self { random, pool, method: String::new() }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    /// One of several.
    pub(super) fn choose<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let at = self.below(of.len());
        &of[at]
    }

    /// A request for a method.
    pub(super) fn request(&mut self, method: &MethodDescriptor) -> DynamicMessage {
        method.name().clone_into(&mut self.method);
        let descriptor = method.input();
        let changed = self.below(4) != 0;
        let base = self.pool.base_of(method).filter(|_| changed);
        let base = base.and_then(|bytes| DynamicMessage::decode(descriptor.clone(), bytes).ok());
        let Some(mut message) = base else { return self.message(&descriptor, 0) };
        for _ in 0..self.below(3) {
            self.change(&mut message, 0);
        }
        message
    }

    /// Changes one field, most often of a message that is there already.
    fn change(&mut self, message: &mut DynamicMessage, depth: u32) {
        let fields: Vec<FieldDescriptor> = message.descriptor().fields().collect();
        if fields.is_empty() {
            return;
        }
        let field = self.choose(&fields).clone();
        let whole = self.below(4) == 0;
        if let (Kind::Message(_), false, true) = (field.kind(), whole, message.has_field(&field))
            && let Value::Message(inner) = message.get_field_mut(&field)
        {
            return self.change(inner, depth + 1);
        }
        match self.below(8) {
            0 => message.clear_field(&field),
            _ => {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
    }

    fn message(&mut self, descriptor: &MessageDescriptor, depth: u32) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        if depth >= DEPTH {
            return message;
        }
        for field in descriptor.fields() {
            // Identifiers are what the rest hangs on.
            let wanted = if depth == 0 { 9 } else { 4 };
            if self.below(10) < wanted {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: u32) -> Value {
        if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
            let mut map = std::collections::HashMap::new();
            for _ in 0..self.below(3) {
                let key = match self.single(&entry.map_entry_key_field(), depth) {
                    Value::String(text) => MapKey::String(text),
                    _ => MapKey::String(String::new()),
                };
                map.insert(key, self.single(&entry.map_entry_value_field(), depth));
            }
            return Value::Map(map);
        }
        if field.is_list() {
            let count = self.below(4);
            return Value::List((0..count).map(|_| self.single(field, depth)).collect());
        }
        self.single(field, depth)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "any number is a good one"
    )]
    fn single(&mut self, field: &FieldDescriptor, depth: u32) -> Value {
        let number = *self.choose(NUMBERS);
        match field.kind() {
            Kind::Bool => Value::Bool(number % 2 == 0),
            Kind::Double => Value::F64(*self.choose(FLOATS)),
            Kind::Float => Value::F32(*self.choose(FLOATS) as f32),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(number as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(number as u64),
            Kind::Enum(_) => Value::EnumNumber([0, 1, 2, 3, -1, 99][self.below(6)]),
            Kind::Bytes => Value::Bytes(Bytes::from_static(b"\xff\0bytes")),
            Kind::Message(descriptor) => Value::Message(self.message(&descriptor, depth + 1)),
            Kind::String => {
                let number = self.random.next_u32() as usize;
                Value::String(self.pool.text(&self.method, field.name(), number))
            }
        }
    }
}
