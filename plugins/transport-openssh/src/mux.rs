//! The control socket of an `ssh` master, in proxy mode: packets of the SSH connection protocol, without encryption.
//!
//! See OpenSSH's `PROTOCOL.mux`, "Requesting passthrough via proxy". There since OpenSSH 7.4.
use std::{io, path::Path};

use autoprof_plugin::bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

const HELLO: u32 = 1;
const VERSION: u32 = 4;
const PROXY: u32 = 0x1000_000f;
const PROXY_GRANTED: u32 = 0x8000_000f;
/// Longest packet that OpenSSH puts on the socket.
const MAX_PACKET: usize = 256 << 10;
/// A buffer with less room than this is enlarged.
const LEAST_ROOM: usize = 64 << 10;

/// Connects to a master and asks it to pass packets through.
pub(crate) async fn connect(socket: &Path) -> io::Result<(Packets, OwnedWriteHalf)> {
    let (read, mut write) = UnixStream::connect(socket).await?.into_split();
    let mut packets = Packets { read, buffer: BytesMut::new() };
    let mut hello = BytesMut::new();
    for words in [[HELLO, VERSION], [PROXY, 0]] {
        hello.put_u32(8);
        words.iter().for_each(|word| hello.put_u32(*word));
    }
    write.write_all(&hello).await?;
    for expected in [HELLO, PROXY_GRANTED] {
        let mut reply = packets.message().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if take_u32(&mut reply) != Some(expected) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the control master refuses proxy mode"));
        }
    }
    Ok((packets, write))
}

/// The way out of a control socket.
pub(crate) struct Packets {
    read: OwnedReadHalf,
    buffer: BytesMut,
}

impl Packets {
    /// The next packet's type and payload; none at the end. Cancel safe.
    pub(crate) async fn next(&mut self) -> io::Result<Option<(u8, Bytes)>> {
        let Some(mut message) = self.message().await? else { return Ok(None) };
        if message.len() < 2 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet without a type"));
        }
        // The length of the padding, which is always 0 here.
        message.advance(1);
        let kind = message.get_u8();
        Ok(Some((kind, message)))
    }

    async fn message(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(mut head) = self.buffer.get(..4) {
                let length = head.get_u32() as usize;
                if length > MAX_PACKET {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet is too long"));
                }
                if self.buffer.len() >= 4 + length {
                    self.buffer.advance(4);
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
            }
            if self.buffer.capacity() - self.buffer.len() < LEAST_ROOM {
                self.buffer.reserve(4 * LEAST_ROOM);
            }
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
}

/// A packet as it goes to the master.
pub(crate) fn packet(kind: u8, payload: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut packet = BytesMut::new();
    packet.put_u32(0);
    packet.put_u8(0);
    packet.put_u8(kind);
    payload(&mut packet);
    let length = u32::try_from(packet.len() - 4).unwrap_or(u32::MAX);
    packet[..4].copy_from_slice(&length.to_be_bytes());
    packet.freeze()
}

/// Appends a string of the protocol.
pub(crate) fn put_string(packet: &mut BytesMut, text: &[u8]) {
    packet.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    packet.put_slice(text);
}

pub(crate) fn take_u32(payload: &mut Bytes) -> Option<u32> {
    (payload.len() >= 4).then(|| payload.get_u32())
}

/// Takes a string of the protocol from the front.
pub(crate) fn take_string(payload: &mut Bytes) -> Option<Bytes> {
    let length = take_u32(payload)? as usize;
    (payload.len() >= length).then(|| payload.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_that_claim_more_than_there_is_are_no_strings() {
        let mut packet = packet(98, |p| put_string(p, b"exec"));
        assert_eq!(&packet[..], b"\0\0\0\x0a\0\x62\0\0\0\x04exec");
        packet.advance(6);
        assert_eq!(take_string(&mut packet.clone()).as_deref(), Some(&b"exec"[..]));
        assert_eq!(take_string(&mut packet.slice(..7)), None);
        assert_eq!(take_string(&mut packet.slice(..3)), None);
    }
}
