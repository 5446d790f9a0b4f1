"""Texts of many scripts and shapes, each a few hundred bytes."""

import random
from string import ascii_lowercase

TEXTS = {
    "english": (
        "Yesterday's weather wasn't bad: 18°C, a light wind (north-west), and no rain. "
        "“Shall we go?” she asked. They'd been running for hours — the U.S. team won 3-2!\n\n"
        "* First, e-mail Dr. O'Neill; then re-read section 4.2.\n1) naïve café façade\n"
    ),
    "code": (
        "def tally(rows: list[int]) -> dict[str, int]:\n"
        '    """Count."""\n'
        "    totals = {}\n\n"
        "    for i, row in enumerate(rows):\n"
        "\tif row>=0 and not(i%2):\n"
        "            totals[f'{row:02d}'] += 1  # TODO\n"
        "\t\treturn None\n\n\n"
        "int main(void) { return argv[0][1]!='\\0' ? x->y++ : ~0x7fULL; }\n"
    ),
    "chinese": (
        "小明有23个苹果，又买了45个。他现在一共有多少个苹果？"
        "答：23＋45＝68（个）。“人工智能”正在改变世界……二〇二四年，AI模型很多；龘靐齉。\n"
    ),
    "japanese": (
        "吾輩は猫である。名前はまだ無い。ｶﾀｶﾅとカタカナ、ひらがな、々を使う。"
        "「コーヒーを2杯ください」と、彼は言った！Pythonで書く。\n"
    ),
    "arabic": (
        "كان الطقسُ جميلًا يومَ أمس، وذهبنا إلى السوق. اشترى أحمدُ ٢٣ تفاحةً؛ "
        "ثمّ قال: «كم بقي؟» العربية_123 لا إله.\n"
    ),
    "thai": "สวัสดีครับ วันนี้อากาศดีมาก ผมมีแอปเปิ้ล 23 ผล แล้วซื้อเพิ่มอีก ๔๕ ผล น้ำแข็งก็กำลังละลาย\n",
    "hindi": ("मेरे पास २३ सेब हैं। मैंने और खरीदे, क्या आप जानते हैं कि कुल कितने हुए? हिन्दी-भाषा में क्षत्रिय।\n"),
    "korean": (
        "안녕하세요! 사과가 23개 있고, 45개를 더 샀습니다. "
        "모두 몇 개일까요? ㅋㅋㅋ 한국어로 답해 주세요.\n"
    ),
    "scripts": (
        "Привет, мир! Съешь ещё этих булок. Καλημέρα κόσμε. שלום עולם, ‏גרשיים״. "
        "မြန်မာဘာသာ ភាសាខ្មែរ ພາສາລາວ Tiếng Việt e\u0301te\u0301 Zürich ŁÓDŹ ① ½ ²\n"
    ),
    "emoji": (
        "Family 👨‍👩‍👧‍👦 waves 👋🏽👋🏿 and 🧑🏻‍🚀 flies 🚀🚀; flags 🇩🇪🇯🇵 🏴󠁧󠁢󠁳󠁣󠁴󠁿, "
        "🏳️‍🌈 ❤️‍🔥 keycap 1️⃣ 😶‍🌫️ok🦙.\n"
    ),
    "numbers": (
        "1234567 + 89 = 1234656; 3.14159, -2.5e-10, 1,000,000.00 €, 50%, 0x1F, 007, "
        "12:34:56, 2024-02-29, +49 (30) 1234-5678, 1/3, 10^12, #42, $5.99, 99999999999999999999\n"
    ),
    "urls": (
        "See https://example.org/a/b.html?q=caf%C3%A9&n=10#frag_2 or mail a.b+c@example.org; "
        "file:///home/x/.config/app.toml, C:\\Temp\\new_file.txt, ../lib/libfoo.so.6 `ls -l | wc`\n"
    ),
    "base64": (
        "key: TWFuIGlzIGRpc3Rpbmd1aXNoZWQsIG5vdCBvbmx5IGJ5IGhpcyByZWFzb24sIGJ1dCBieSB0aGlz"
        "IHNpbmd1bGFyIHBhc3Npb24gZnJvbSBvdGhlciBhbmltYWxz+/8= sha 9f86d081884c7d659a2feaa0c55ad0\n"
    ),
    "no-spaces": "".join(random.Random(0).choices(ascii_lowercase, k=300)),
    "whitespace": (
        "\n\n\n\n  a\n"
        + "\n" * 45
        + "b"
        + " " * 70
        + "c\t\t \n \t d\r\n\r\ne\u3000f\u00a0g  \n   \n"
    ),
    "mixed": (
        '| Name | 値 |\n|------|----|\n| été | 1️⃣ |\n\n```sh\necho "你好，world"\n```\n'
        "$\\frac{a_1}{b^2}$ → ✅ <b>Done</b>&nbsp;<!-- ok --> ======== ... ▁▂▃█ \u200b\ufeffend"
    ),
}
