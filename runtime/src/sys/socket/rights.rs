//! Open descriptors as part of a message (SCM_RIGHTS, unix(7)).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// The most descriptors in one message: SCM_MAX_FD of the kernel.
pub(crate) const RIGHTS_MAX: usize = 253;

/// Room for one control message with so many descriptors: a header, which is aligned like a `usize`, and they.
const CONTROL_BYTES: usize =
    (mem::size_of::<libc::cmsghdr>() + RIGHTS_MAX * mem::size_of::<RawFd>()).next_multiple_of(8);

#[repr(align(8))]
struct Control([u8; CONTROL_BYTES]);

const _: () = assert!(mem::align_of::<libc::cmsghdr>() <= mem::align_of::<Control>());

/// Sends `bytes`, and `fds` with the first of them.
///
/// # Panics
/// If there are more than [`RIGHTS_MAX`] descriptors.
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    assert!(fds.len() <= RIGHTS_MAX, "rights: {} descriptors in one message", fds.len());
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zeroes is a valid empty msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let data_bytes = mem::size_of_val(fds) as u32;
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: arithmetic only.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(data_bytes) } as _;
        assert!(message.msg_controllen as usize <= CONTROL_BYTES, "rights: the control buffer is too small");
        // SAFETY: the control buffer is live, aligned, zeroed, and has room for this one header and its data, as was
        // just asserted; a `BorrowedFd` is a raw descriptor (std's promise: it is repr(transparent)).
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(data_bytes) as _;
            ptr::copy_nonoverlapping(fds.as_ptr().cast(), libc::CMSG_DATA(header), data_bytes as usize);
        }
    }
    // SAFETY: everything that the message points to is live, and sendmsg only reads it.
    super::super::check_len(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })
}

/// What came with a message.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) count: usize,
    pub(crate) fds: Vec<OwnedFd>,
    /// The kernel kept descriptors back: this process has as many as it may have.
    pub(crate) lost: bool,
}

/// Receives into `buffer`, and the descriptors that were sent with it, close-on-exec.
pub(crate) fn recv(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid empty msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: the buffer and the control buffer are live and writable for the lengths in the message.
    let count = super::super::check_len(unsafe {
        libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC)
    })?;
    let mut fds = Vec::new();
    // SAFETY: the kernel has left whole control messages in the control buffer and their length in the message;
    // CMSG_FIRSTHDR and CMSG_NXTHDR give headers inside of it, or null.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: the header is not null, so it is a whole one, as above.
        let (level, kind, len) =
            unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len as usize) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: arithmetic on the header's address.
            let data = unsafe { libc::CMSG_DATA(header) };
            // SAFETY: arithmetic only.
            let data_bytes = len - unsafe { libc::CMSG_LEN(0) } as usize;
            for index in 0..data_bytes / mem::size_of::<RawFd>() {
                // SAFETY: the header's length says that so many descriptors follow it.
                let raw = unsafe { data.cast::<RawFd>().add(index).read_unaligned() };
                // SAFETY: the kernel has just opened it for us, and nobody else knows it.
                fds.push(unsafe { OwnedFd::from_raw_fd(raw) });
            }
        }
        // SAFETY: as for the first.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(Received { count, fds, lost: message.msg_flags & libc::MSG_CTRUNC != 0 })
}
