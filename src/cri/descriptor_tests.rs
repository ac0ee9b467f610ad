//! The compiled protocol is the interface: nothing missing, nothing extra.
//!
//! `tests/data/cri-v1.tsv` is the table of every RPC, message, field and enum value. It is compared
//! with the compiled descriptor as two sets of lines, so that a difference shows as what it is.

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use std::collections::BTreeSet;

const TABLE: &str = include_str!("../../tests/data/cri-v1.tsv");
const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.bin"));

fn line(columns: [&str; 6]) -> String {
    columns.join("\t").trim_end().to_owned()
}

fn table() -> BTreeSet<String> {
    let lines = TABLE.lines().filter(|l| !l.starts_with('#'));
    // A message line stands for a message without fields.
    let lines = lines.map(|l| l.trim_end().to_owned());
    lines.collect()
}

fn short(type_name: &str) -> &str {
    type_name.trim_start_matches(".runtime.v1.")
}

fn scalar(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => short(field.type_name()).to_owned(),
        other => other.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
    }
}

fn describe_field(message: &DescriptorProto, field: &FieldDescriptorProto) -> (String, String) {
    let entry = message.nested_type.iter().find(|n| {
        n.options.as_ref().is_some_and(|o| o.map_entry())
            && field.type_name().ends_with(&format!(".{}", n.name()))
    });
    if let Some(entry) = entry {
        let parts: Vec<String> = entry.field.iter().map(scalar).collect();
        return (format!("map<{}>", parts.join(",")), String::new());
    }
    let mut labels = Vec::new();
    if field.label() == Label::Repeated {
        labels.push("repeated");
    }
    if field.options.as_ref().is_some_and(|o| o.deprecated()) {
        labels.push("deprecated");
    }
    if field.proto3_optional() {
        labels.push("optional");
    }
    if field.oneof_index.is_some() {
        labels.push("oneof");
    }
    (scalar(field), labels.join(","))
}

fn describe_enum(owner: &str, item: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &item.value {
        let number = value.number().to_string();
        lines.insert(line(["enum", owner, value.name(), &number, "", ""]));
    }
}

fn describe_message(name: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    if message.field.is_empty() {
        lines.insert(line(["message", name, "", "", "", ""]));
    }
    for field in &message.field {
        let (kind, label) = describe_field(message, field);
        let number = field.number().to_string();
        lines.insert(line(["field", name, field.name(), &number, &kind, &label]));
    }
    for item in &message.enum_type {
        describe_enum(&format!("{name}.{}", item.name()), item, lines);
    }
    for nested in &message.nested_type {
        if !nested.options.as_ref().is_some_and(|o| o.map_entry()) {
            describe_message(&format!("{name}.{}", nested.name()), nested, lines);
        }
    }
}

fn compiled() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(DESCRIPTOR).expect("descriptor set");
    let mut lines = BTreeSet::new();
    for file in &set.file {
        assert_eq!(file.package(), "runtime.v1");
        assert_eq!(file.syntax(), "proto3");
        for service in &file.service {
            for method in &service.method {
                let stream = if method.server_streaming() { "stream " } else { "" };
                let client = if method.client_streaming() { "stream " } else { "" };
                let input = format!("{client}{}", short(method.input_type()));
                let output = format!("{stream}{}", short(method.output_type()));
                lines.insert(line(["rpc", service.name(), method.name(), "", &input, &output]));
            }
        }
        for item in &file.enum_type {
            describe_enum(item.name(), item, &mut lines);
        }
        for message in &file.message_type {
            describe_message(message.name(), message, &mut lines);
        }
    }
    lines
}

#[test]
fn every_item_of_the_table_is_in_the_compiled_protocol() {
    let missing: Vec<String> = table().difference(&compiled()).cloned().collect();
    assert!(missing.is_empty(), "missing:\n{}", missing.join("\n"));
}

#[test]
fn the_compiled_protocol_has_nothing_that_the_table_has_not() {
    let extra: Vec<String> = compiled().difference(&table()).cloned().collect();
    assert!(extra.is_empty(), "extra:\n{}", extra.join("\n"));
}

#[test]
fn the_interface_has_43_methods() {
    assert_eq!(compiled().iter().filter(|l| l.starts_with("rpc\t")).count(), 43);
    assert!(TABLE.starts_with("# package runtime.v1\n"));
}
