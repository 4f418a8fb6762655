"""Reports as organisations send them, made on the spot."""

import gzip
import io
import json
import zipfile
from email.message import EmailMessage

DMARC = """\
<?xml version="1.0" encoding="UTF-8"?>
<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">
  <report_metadata>
    <org_name>outside.test</org_name><email>postmaster@outside.test</email>
    <report_id>r-1</report_id><date_range><begin>1764000000</begin><end>1764086400</end></date_range>
  </report_metadata>
  <policy_published><domain>Fortress.test</domain><p>reject</p></policy_published>
  <record>
    <row><source_ip>203.0.113.1</source_ip><count>40</count>
      <policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>pass</spf></policy_evaluated></row>
    <identifiers><header_from>fortress.test</header_from></identifiers>
    <auth_results><dkim><domain>fortress.test</domain><result>pass</result></dkim></auth_results>
  </record>
  <record>
    <row><source_ip>2001:db8::66</source_ip><count>3</count>
      <policy_evaluated><disposition>reject</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row>
    <identifiers><header_from>fortress.test</header_from></identifiers>
  </record>
</feedback>
"""
TLS = json.dumps(
    {
        "organization-name": "outside.test",
        "date-range": {
            "start-datetime": "2026-11-24T00:00:00Z",
            "end-datetime": "2026-11-24T23:59:59Z",
        },
        "report-id": "t-1",
        "policies": [
            {
                "policy": {"policy-type": "sts", "policy-domain": "fortress.test"},
                "summary": {
                    "total-successful-session-count": 97,
                    "total-failure-session-count": 3,
                },
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "sending-mta-ip": "203.0.113.100",
                        "receiving-mx-hostname": "mx.fortress.test",
                        "failed-session-count": 2,
                    }
                ],
            }
        ],
    }
)


def zipped(*contents: bytes) -> bytes:
    """A zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"report{number}.xml", content)
    return stream.getvalue()


def gzipped(content: bytes) -> bytes:
    """A gzip file."""
    return gzip.compress(content)


def mail(attachment: bytes, subtype: str = "zip", verdict: str = "dmarc=pass") -> bytes:
    """A message that carries a report."""
    message = EmailMessage()
    message["From"] = "reports@outside.test"
    message["To"] = "dmarc-reports@fortress.test"
    message["Subject"] = "Report Domain: fortress.test Submitter: outside.test"
    message["Authentication-Results"] = f"mx.fortress.test; {verdict}"
    message.set_content("This is an aggregate report.")
    message.add_attachment(attachment, "application", subtype, filename="report")
    return message.as_bytes()
