//! The binary interface as text: a change of it is seen here, and not by users whose plugins are refused.
//!
//! abi_stable compares a plugin's layout with the host's when the plugin is loaded. The layout of the first release is
//! in `interface-1.txt`, and today's has to be that with additions where additions are allowed.
use std::collections::{BTreeMap, BTreeSet};

use abi_stable::{
    StableAbi,
    type_layout::{TLData, TLField, TypeLayout},
};

use crate::raw::PluginRoot_Ref;

const RELEASED: &str = include_str!("interface-1.txt");
/// How the line under the name of a type begins that may get more fields behind its last one.
const GROWS: &str = "grows";
/// Types of abi_stable's that are told apart inside of others of theirs.
const TEXT: [&str; 2] = ["RString", "RStr"];

/// Our types by name: what each is, and a line for each field in its order.
type Interface = BTreeMap<String, Vec<String>>;

/// Everything of ours that is reached from what a plugin exports.
fn interface() -> Interface {
    let mut all = Interface::new();
    let mut rest = own(<PluginRoot_Ref as StableAbi>::LAYOUT);
    while let Some(layout) = rest.pop() {
        if all.contains_key(&name(layout)) {
            continue;
        }
        let fields = fields(layout);
        let lines = [head(layout)].into_iter().chain(fields.iter().map(line)).collect();
        all.insert(name(layout), lines);
        rest.extend(parts(layout).into_iter().flat_map(own));
    }
    all
}

fn is_own(layout: &TypeLayout) -> bool {
    layout.package().as_str() == env!("CARGO_PKG_NAME")
}

/// The name, for a table of methods (they are all called the same) with that of its trait.
fn name(layout: &TypeLayout) -> String {
    let module = layout.mod_path().to_string();
    match module.rsplit("::").next() {
        Some(of) if layout.name() == "VTable" => format!("{of}::VTable"),
        _ => layout.name().to_owned(),
    }
}

fn fields(layout: &TypeLayout) -> Vec<TLField> {
    layout.get_fields().map(|fields| fields.to_vec()).unwrap_or_default()
}

/// The types that a type is made of, and those of its functions.
fn parts(layout: &'static TypeLayout) -> Vec<&'static TypeLayout> {
    let mut parts = Vec::new();
    for field in fields(layout).into_iter().chain(layout.phantom_fields().to_vec()) {
        parts.push(field.layout());
        for function in field.function_range().iter() {
            parts.extend(function.param_type_layouts.iter().map(|layout| layout()));
            parts.extend(function.return_type_layout().map(|layout| layout()));
        }
    }
    parts
}

/// The types of ours, and texts, that are in a type of others, or the type itself.
fn own(layout: &'static TypeLayout) -> Vec<&'static TypeLayout> {
    let (mut found, mut seen, mut rest) = (Vec::new(), BTreeSet::new(), vec![layout]);
    while let Some(layout) = rest.pop() {
        if !seen.insert(std::ptr::from_ref(layout)) {
            continue;
        }
        match is_own(layout) || TEXT.contains(&layout.name()) {
            true => found.push(layout),
            false => rest.extend(parts(layout).into_iter().rev()),
        }
    }
    found
}

fn head(layout: &TypeLayout) -> String {
    let kind = match layout.data() {
        TLData::PrefixType(prefix) => return format!("{GROWS} behind its first {}", prefix.first_suffix_field),
        TLData::Struct { .. } => "struct",
        TLData::Enum(_) => "enum",
        TLData::Primitive(_) | TLData::Opaque | TLData::Union { .. } => "opaque",
    };
    format!("{kind}, {} bytes, aligned to {}", layout.size(), layout.alignment())
}

fn line(field: &TLField) -> String {
    let mut line = format!("{}: ", field.name());
    let mut functions = field.function_range().iter().peekable();
    if functions.peek().is_none() {
        line += &described(field.layout());
    }
    for function in functions {
        let params: Vec<String> = function.param_type_layouts.iter().map(|layout| described(layout())).collect();
        let returned = function.return_type_layout().map_or_else(|| "()".to_owned(), |layout| described(layout()));
        line += &format!("fn({}) -> {returned}", params.join(", "));
    }
    line
}

/// A type's name; for one of others, with what of ours is in it and with its size.
fn described(layout: &'static TypeLayout) -> String {
    if is_own(layout) {
        return name(layout);
    }
    let inside: BTreeSet<String> = own(layout).into_iter().map(name).filter(|inside| inside != layout.name()).collect();
    let inside: Vec<String> = inside.into_iter().collect();
    let of = if inside.is_empty() { String::new() } else { format!("<{}>", inside.join(", ")) };
    format!("{}{of} {}", layout.name(), layout.size())
}

fn write(interface: &Interface) -> String {
    interface.iter().map(|(name, lines)| format!("{name}\n  {}\n", lines.join("\n  "))).collect::<Vec<_>>().join("\n")
}

fn read(text: &str) -> Interface {
    let types = text.split("\n\n").filter_map(|block| {
        let mut lines = block.lines().map(|line| line.trim().to_owned());
        Some((lines.next()?, lines.collect()))
    });
    types.collect()
}

/// What a plugin that was built against `released` would be refused for.
fn broken(released: &Interface, now: &Interface) -> Vec<String> {
    let is_kept = |name: &String, was: &Vec<String>| match now.get(name) {
        Some(is) if was[0].starts_with(GROWS) => is.starts_with(was),
        is => is == Some(was),
    };
    released.iter().filter(|(name, was)| !is_kept(name, was)).map(|(name, _)| name.clone()).collect()
}

#[test]
#[cfg(target_pointer_width = "64")]
fn plugins_built_against_the_first_release_fit() {
    let now = interface();
    let broken = broken(&read(RELEASED), &now);
    assert!(broken.is_empty(), "{broken:?} is another than it was released:\n{}", write(&now));
    // What was added once is kept as well.
    assert!(write(&now) == RELEASED, "write what is new into src/interface-1.txt:\n{}", write(&now));
}

#[test]
fn only_a_field_behind_the_last_of_what_grows_is_no_break() {
    let released =
        read("Table\n  grows behind its first 1\n  a: u32\n  b: u32\n\nValue\n  struct, 4 bytes\n  a: u32\n");
    let with = |from: &str, to: &str| broken(&released, &read(&write(&released).replace(from, to)));
    assert!(with("", "").is_empty());
    assert!(with("  b: u32\n", "  b: u32\n  c: u8\n").is_empty(), "a method behind the last");
    assert!(with("Value", "Another\n  struct, 1 bytes\n\nValue").is_empty(), "a type more");
    for (from, to) in [("  a: u32\n  b: u32", "  b: u32\n  a: u32"), ("  b: u32\n", ""), ("b: u32", "b: u64")] {
        assert_eq!(with(from, to), ["Table"], "{from} → {to}");
    }
    for (from, to) in
        [("4 bytes\n  a: u32\n", "4 bytes\n  a: u32\n  b: u8\n"), ("4 bytes", "8 bytes"), ("Value", "Other")]
    {
        assert_eq!(with(from, to), ["Value"], "{from} → {to}");
    }
}
