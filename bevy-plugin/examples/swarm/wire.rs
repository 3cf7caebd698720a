//! What went over loopback, as the kernel counts it: the whole traffic of the network namespace that this process is in.

/// Bytes before the payload of a UDP packet on loopback: Ethernet, IPv4, UDP.
const HEADER_BYTES: u64 = 14 + 20 + 8;

/// Counters, or how much they grew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    /// Bytes of UDP payload. The kernel hands several datagrams of one size over loopback in one packet where it can, and
    /// counts one set of headers; so does this.
    pub(crate) bytes: u64,
    /// Datagrams that arrived and found the receiver's buffer full.
    pub(crate) dropped: Option<u64>,
}

impl Wire {
    /// What was counted so far, where the system tells.
    pub(crate) fn read() -> Option<Self> {
        // Received: bytes, packets, errors, dropped, fifo, frame, compressed, multicast; sent: the same again (proc(5)).
        let devices = std::fs::read_to_string("/proc/self/net/dev").ok()?;
        let mut loopback = devices.lines().find_map(|line| line.trim().strip_prefix("lo:"))?.split_whitespace();
        let bytes: u64 = loopback.next()?.parse().ok()?;
        let packets: u64 = loopback.next()?.parse().ok()?;
        Some(Self { bytes: bytes.saturating_sub(packets * HEADER_BYTES), dropped: buffers_full() })
    }

    /// How much that grew since.
    pub(crate) fn since(before: Option<&Self>) -> Option<Self> {
        let (before, now) = (before?, Self::read()?);
        let dropped = before.dropped.zip(now.dropped).map(|(before, now)| now.saturating_sub(before));
        Some(Self { bytes: now.bytes.saturating_sub(before.bytes), dropped })
    }
}

/// `RcvbufErrors` of UDP: a line of names, and one of numbers.
fn buffers_full() -> Option<u64> {
    let table = std::fs::read_to_string("/proc/self/net/snmp").ok()?;
    let mut rows = table.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (names, numbers) = (rows.next()?.split_whitespace(), rows.next()?.split_whitespace());
    names.zip(numbers).find(|(name, _)| *name == "RcvbufErrors")?.1.parse().ok()
}
