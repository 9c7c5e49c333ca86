//! The exported header of a plugin: made in the plugin, checked in the host.
use abi_stable::{
    StableAbi,
    abi_stability::abi_checking::check_layout_compatibility,
    library::{__call_root_module_loader, AbiHeaderRef, CheckTypeLayout, LibHeader, LibraryError, RootModuleResult},
    prefix_type::PrefixTypeTrait as _,
};

use crate::raw::{FfiHostObj, FfiRegistry, FfiResult, PluginRoot, PluginRoot_Ref};

/// What a plugin exports under [`SYMBOL_PREFIX`] and its name.
pub type Header = LibHeader;
/// What the host finds under that name.
pub type HeaderRef = AbiHeaderRef;
/// The beginning of the exported symbol's name; a plugin's name follows.
pub const SYMBOL_PREFIX: &str = "autoprof_plugin_root_";

/// The header of an exported root; `load` calls nothing but [`constructed`].
#[must_use]
#[allow(unsafe_code)]
pub const fn header(load: extern "C" fn() -> RootModuleResult) -> Header {
    // SAFETY: `load` erases a `PluginRoot_Ref` and nothing else, by `constructed`.
    unsafe { LibHeader::from_constructor::<PluginRoot_Ref>(load, CheckTypeLayout::Yes) }
}

/// What `load` gives back.
pub type Constructed = RootModuleResult;

/// Calls the function that makes the root.
#[must_use]
pub fn constructed(root: fn() -> PluginRoot_Ref) -> Constructed {
    __call_root_module_loader(root)
}

/// The root of a plugin with these functions.
#[must_use]
pub fn root(init: extern "C" fn(FfiHostObj) -> FfiResult<FfiRegistry>, shutdown: extern "C" fn(u32)) -> PluginRoot_Ref {
    PluginRoot { init, shutdown }.leak_into_prefix()
}

/// Why a plugin's interface does not fit.
#[derive(Debug)]
pub struct Misfit {
    /// One line.
    pub summary: String,
    /// abi_stable's whole report, up to tens of kilobytes.
    pub full: String,
}

impl From<LibraryError> for Misfit {
    fn from(e: LibraryError) -> Self {
        let full = e.to_string();
        Self { summary: summarise(&full), full }
    }
}

/// Checks a plugin's interface against this library's and gives its root.
///
/// abi_stable's check refuses a plugin that is older than the host as soon as something was added; such a plugin is
/// fine if *its* interface is satisfied by the host's, since what is absent has a default.
///
/// # Errors
/// When neither is the other with something added.
#[allow(unsafe_code)]
pub fn open(header: HeaderRef) -> Result<PluginRoot_Ref, Misfit> {
    let header = header.upgrade()?;
    let refused = match header.init_root_module::<PluginRoot_Ref>() {
        Ok(root) => return Ok(root),
        Err(e @ LibraryError::AbiInstability(_)) => e,
        Err(e) => return Err(e.into()),
    };
    match header.layout().map(|plugin| check_layout_compatibility(plugin, <PluginRoot_Ref as StableAbi>::LAYOUT)) {
        // SAFETY: the plugin's layout is a prefix of this library's: it was checked just now, the other way round.
        Some(Ok(())) => Ok(unsafe { header.init_root_module_with_unchecked_layout::<PluginRoot_Ref>() }?),
        _ => Err(refused.into()),
    }
}

/// One line out of abi_stable's report: the innermost type that differs, and how.
fn summarise(full: &str) -> String {
    let innermost = full.split("error(s)inside:").skip(1).filter_map(block).last();
    innermost.unwrap_or_else(|| {
        let first = full.lines().map(str::trim).find(|line| !line.is_empty());
        first.unwrap_or("no reason was given").to_owned()
    })
}

fn block(block: &str) -> Option<String> {
    let (head, tail) = block.split_once("Error:")?;
    let expected = head.split_once("Layout of expected type:").map_or("", |(_, layout)| layout);
    let name = expected.lines().find_map(|line| line.trim().strip_prefix("type:")).unwrap_or("a type");
    let errors = tail.split("Error:").take(2).map(|error| {
        let lines: Vec<&str> = error.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let after = |key| lines.iter().position(|l| *l == key).and_then(|at| lines.get(at + 1)).copied().unwrap_or("?");
        format!("{}: expected {}, found {}", lines.first().unwrap_or(&""), after("Expected:"), after("Found:"))
    });
    Some(format!("{}: {}", name.trim(), errors.collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_report_becomes_one_line() {
        let full = "Compared <this>:\n\n0 error(s)inside:\n<x>\n\n2 error(s)inside:\n  <a>\nLayout of expected type:\n  \
            type:FfiChunk\n size:40\nError:too many fields\nExpected:\n    2\nFound:\n    3\nError:bad size\nExpected:\n  \
            8\nFound:\n  9\n";
        assert_eq!(summarise(full), "FfiChunk: too many fields: expected 2, found 3; bad size: expected 8, found 9");
        assert_eq!(summarise("\n  odd\nmore"), "odd");
    }
}
