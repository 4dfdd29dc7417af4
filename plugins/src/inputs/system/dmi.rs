//! The hardware as its firmware describes it, from `/sys/class/dmi/id`.

use std::path::Path;

use heliograph_core::host::HostPaths;
use heliograph_core::model::Value;

use crate::common::proc_file::FileReader;

/// Fields and the files they come from.
const ATTRIBUTES: [(&str, &str); 20] = [
    ("bios_vendor", "bios_vendor"),
    ("bios_version", "bios_version"),
    ("bios_date", "bios_date"),
    ("board_vendor", "board_vendor"),
    ("board_product", "board_name"),
    ("board_version", "board_version"),
    ("board_serial", "board_serial"),
    ("board_asset_tag", "board_asset_tag"),
    ("chassis_vendor", "chassis_vendor"),
    (CHASSIS_CODE, "chassis_type"),
    ("chassis_version", "chassis_version"),
    ("chassis_serial", "chassis_serial"),
    ("chassis_asset_tag", "chassis_asset_tag"),
    ("product_vendor", "sys_vendor"),
    ("product_name", "product_name"),
    ("product_family", "product_family"),
    ("product_version", "product_version"),
    ("product_serial", "product_serial"),
    ("product_sku", "product_sku"),
    ("product_uuid", "product_uuid"),
];

const CHASSIS_CODE: &str = "chassis_type_code";

/// The kinds of chassis by their codes, from 1 on; SMBIOS, structure 3.
const CHASSIS: [&str; 36] = [
    "Other",
    "Unknown",
    "Desktop",
    "Low profile desktop",
    "Pizza box",
    "Mini tower",
    "Tower",
    "Portable",
    "Laptop",
    "Notebook",
    "Hand held",
    "Docking station",
    "All in one",
    "Sub notebook",
    "Space-saving",
    "Lunch box",
    "Main server chassis",
    "Expansion chassis",
    "SubChassis",
    "Bus Expansion chassis",
    "Peripheral chassis",
    "RAID chassis",
    "Rack mount chassis",
    "Sealed-case PC",
    "Multi-system chassis",
    "Compact PCI",
    "Advanced TCA",
    "Blade",
    "Blade enclosure",
    "Tablet",
    "Convertible",
    "Detachable",
    "IoT gateway",
    "Embedded PC",
    "Mini PC",
    "Stick PC",
];

/// What stands for everything that cannot be read: serial numbers without root, all of it on machines without DMI.
const UNKNOWN: &str = "unknown";

/// All fields of the group.
///
/// Below `GHW_CHROOT`: that is the variable of the library behind Telegraf here, which does not know of `HOST_SYS`.
pub(super) fn fields(host: &HostPaths, reader: &mut FileReader) -> Vec<(&'static str, Value)> {
    let folder = Path::new(host.variable("GHW_CHROOT").unwrap_or("/")).join("sys/class/dmi/id");
    let mut fields = Vec::with_capacity(ATTRIBUTES.len() + 1);
    for (field, file) in ATTRIBUTES {
        let text = reader.read(&folder.join(file)).map_or(UNKNOWN.as_bytes(), <[u8]>::trim_ascii);
        fields.push((field, text.into()));
        if field == CHASSIS_CODE {
            fields.push(("chassis_type", chassis(text).into()));
        }
    }
    fields
}

fn chassis(code: &[u8]) -> &'static str {
    let is_code = |place: &usize| (place + 1).to_string().as_bytes() == code;
    (0..CHASSIS.len()).find(is_code).map_or(UNKNOWN, |place| CHASSIS[place])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testkit::TestHost;

    #[test]
    fn what_the_firmware_says() {
        let host = TestHost::new(&[
            ("sys/class/dmi/id/chassis_type", "23\n"),
            ("sys/class/dmi/id/board_name", " X11 \n"),
            ("sys/class/dmi/id/sys_vendor", "Acme\n"),
        ]);
        let root = host.path("").to_str().unwrap().to_string();
        let fields = fields(&host.set("GHW_CHROOT", root).context().host, &mut FileReader::new());
        let known: Vec<_> = fields.iter().filter(|(_, value)| *value != Value::from(UNKNOWN)).collect();
        assert_eq!(
            format!("{known:?}"),
            r#"[("board_product", Text("X11")), ("chassis_type_code", Text("23")), ("chassis_type", Text("Rack mount chassis")), ("product_vendor", Text("Acme"))]"#
        );
        assert_eq!(fields.len(), 21);
    }

    #[test]
    fn codes() {
        let codes: [&[u8]; 6] = [b"1", b"36", b"0", b"37", b"x", b"03"];
        assert_eq!(codes.map(chassis), ["Other", "Stick PC", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]);
    }
}
