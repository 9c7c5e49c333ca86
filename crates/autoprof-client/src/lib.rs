//! The program that autoprof puts on hosts
