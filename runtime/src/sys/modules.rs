//! The executables and libraries that are loaded, with what they say about unwinding (dl_iterate_phdr(3), and the Linux
//! Standard Base on `.eh_frame_hdr`).
//!
//! What is returned is copied while the loader's lock is held: a library may be unloaded at any other time.

use core::ffi::CStr;
use core::ops::Range;
use core::slice;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A loaded executable or library that has unwind tables.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its file, if it has one.
    pub(crate) path: PathBuf,
    /// What is added to an address in the file to have that in memory.
    pub(crate) bias: usize,
    /// From its first to its last loaded byte.
    pub(crate) range: Range<usize>,
    /// The index of its unwind table: where it lies in memory, and its bytes.
    pub(crate) eh_frame_hdr: (usize, Vec<u8>),
    /// The unwind table, and what follows it in its segment.
    pub(crate) eh_frame: (usize, Vec<u8>),
}

/// All that are loaded now.
pub(crate) fn loaded() -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    // SAFETY: the callback gets the vector that is passed here, and both live until the call returns.
    unsafe { libc::dl_iterate_phdr(Some(on_module), (&raw mut modules).cast()) };
    modules
}

unsafe extern "C" fn on_module(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    modules: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader passes a valid description, and `loaded` the vector, which nobody else uses meanwhile.
    let (info, modules) = unsafe { (&*info, &mut *modules.cast::<Vec<Module>>()) };
    // SAFETY: so many program headers are there (dl_iterate_phdr(3)).
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    // SAFETY: the name is a string that lives as long as the module is loaded, or null.
    let name =
        unsafe { (!info.dlpi_name.is_null()).then(|| CStr::from_ptr(info.dlpi_name)) }.unwrap_or_default();
    if let Some(module) = read(name, info.dlpi_addr as usize, headers) {
        modules.push(module);
    }
    0
}

fn read(name: &CStr, bias: usize, headers: &[libc::Elf64_Phdr]) -> Option<Module> {
    let loaded = |header: &libc::Elf64_Phdr| {
        let start = bias.wrapping_add(header.p_vaddr as usize);
        start..start + header.p_filesz as usize
    };
    let segments = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD).map(loaded);
    let index = headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME).map(loaded)?;
    let index_segment = segments().find(|segment| segment.contains(&index.start))?;
    let index = index.start..index.end.min(index_segment.end);
    let index_bytes = copy(index.clone());
    let table_start = table_start(index.start, &index_bytes)?;
    let table_segment = segments().find(|segment| segment.contains(&table_start))?;
    // The program itself has no name here.
    let path =
        if name.is_empty() { "/proc/self/exe".into() } else { OsStr::from_bytes(name.to_bytes()).into() };
    Some(Module {
        path,
        bias,
        range: segments().map(|segment| segment.start).min()?..segments().map(|segment| segment.end).max()?,
        eh_frame_hdr: (index.start, index_bytes),
        eh_frame: (table_start, copy(table_start..table_segment.end)),
    })
}

/// Where the table is, as its index says in the encoding that every linker uses: a 32-bit offset from its own place.
fn table_start(index_start: usize, index: &[u8]) -> Option<usize> {
    const VERSION: u8 = 1;
    const RELATIVE_SIGNED_32: u8 = 0x1b; // DW_EH_PE_pcrel | DW_EH_PE_sdata4
    let (head, rest) = index.split_first_chunk::<4>()?;
    let offset = i32::from_le_bytes(*rest.first_chunk()?);
    (head[..2] == [VERSION, RELATIVE_SIGNED_32])
        .then(|| (index_start + head.len()).wrapping_add_signed(offset as isize))
}

fn copy(range: Range<usize>) -> Vec<u8> {
    // SAFETY: the range lies within a loaded, readable segment (the two of `read` hold tables that the unwinder itself
    // reads), which stays loaded while the loader's lock is held, and nobody writes to it.
    unsafe { slice::from_raw_parts(range.start as *const u8, range.len()) }.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_code_is_in_a_module_with_an_unwind_table() {
        let here = this_very_code_is_in_a_module_with_an_unwind_table as *const () as usize;
        let modules = loaded();
        let module = modules.iter().find(|module| module.range.contains(&here)).expect("the test binary");
        assert_eq!(module.path.to_str(), Some("/proc/self/exe"));
        assert!(module.range.contains(&module.eh_frame_hdr.0));
        assert!(module.range.contains(&module.eh_frame.0));
        // A table begins with an entry, whose length comes first.
        let length = u32::from_le_bytes(*module.eh_frame.1.first_chunk().unwrap()) as usize;
        assert!((4..module.eh_frame.1.len()).contains(&length), "{length}");
    }

    #[test]
    fn an_index_in_another_encoding_is_left_alone() {
        assert_eq!(table_start(0x1000, &[1, 0x1b, 3, 0x3b, 8, 0, 0, 0]), Some(0x100c));
        assert_eq!(table_start(0x1000, &[1, 0x1b, 3, 0x3b, 0xfc, 0xff, 0xff, 0xff]), Some(0x1000));
        assert_eq!(table_start(0x1000, &[1, 0x03, 3, 0x3b, 8, 0, 0, 0]), None);
        assert_eq!(table_start(0x1000, &[2, 0x1b, 3, 0x3b, 8, 0, 0, 0]), None);
        assert_eq!(table_start(0x1000, &[1, 0x1b, 3, 0x3b, 8]), None);
    }
}
