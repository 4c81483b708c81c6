//! Packet captures to TCP segments and back: pcap, pcapng, link, IP and TCP headers.
