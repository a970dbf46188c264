"""Sentences for callers in the languages of ZITADEL (spec 6.10), in our own words, and the choice among them."""

from mailward.api.texts_admin import TRANSLATIONS
from mailward.settings.languages import DEFAULT_LANGUAGE, LANGUAGES

_OTHERS = tuple(language for language in LANGUAGES if language != DEFAULT_LANGUAGE)

#: English sentence → the same in `_OTHERS`, one a line, in that order. A sentence that is not here stays English.
_TRANSLATIONS: dict[str, tuple[str, ...]] = {
    "SMTP configuration not found": (
        "SMTP конфигурацията не е намерена",
        "Konfigurace SMTP nebyla nalezena",
        "SMTP-Konfiguration nicht gefunden",
        "No se ha encontrado la configuración SMTP",
        "Configuration SMTP introuvable",
        "Az SMTP-konfiguráció nem található",
        "Konfigurasi SMTP tidak ditemukan",
        "Configurazione SMTP non trovata",
        "SMTP 設定が見つかりません",
        "SMTP 설정을 찾을 수 없습니다",
        "SMTP конфигурацијата не е пронајдена",
        "SMTP-configuratie niet gevonden",
        "Nie znaleziono konfiguracji SMTP",
        "Configuração SMTP não encontrada",
        "Configurația SMTP nu a fost găsită",
        "Конфигурация SMTP не найдена",
        "SMTP-konfigurationen hittades inte",
        "SMTP yapılandırması bulunamadı",
        "未找到 SMTP 配置",
    ),
    "SMTP configuration already deactivated": (
        "SMTP конфигурацията вече е деактивирана",
        "Konfigurace SMTP je již deaktivována",
        "SMTP-Konfiguration ist bereits deaktiviert",
        "La configuración SMTP ya está desactivada",
        "La configuration SMTP est déjà désactivée",
        "Az SMTP-konfiguráció már inaktív",
        "Konfigurasi SMTP sudah dinonaktifkan",
        "La configurazione SMTP è già disattivata",
        "SMTP 設定はすでに無効になっています",
        "SMTP 설정이 이미 비활성화되어 있습니다",
        "SMTP конфигурацијата е веќе деактивирана",
        "SMTP-configuratie is al gedeactiveerd",
        "Konfiguracja SMTP jest już wyłączona",
        "A configuração SMTP já está desativada",
        "Configurația SMTP este deja dezactivată",
        "Конфигурация SMTP уже отключена",
        "SMTP-konfigurationen är redan inaktiverad",
        "SMTP yapılandırması zaten devre dışı",
        "SMTP 配置已停用",
    ),
    "The sender address must be configured as custom domain on the instance.": (
        "Домейнът на подателя трябва да е добавен като собствен домейн на инстанцията.",
        "Doména odesílatele musí být na instanci nastavena jako vlastní doména.",
        "Die Domain des Absenders muss als eigene Domain der Instanz eingetragen sein.",
        "El dominio del remitente debe estar configurado como dominio propio de la instancia.",
        "Le domaine de l'expéditeur doit être configuré comme domaine personnalisé de l'instance.",
        "A feladó tartományát saját tartományként kell felvenni a példányhoz.",
        "Domain pengirim harus didaftarkan sebagai domain khusus pada instans.",
        "Il dominio del mittente deve essere configurato come dominio personalizzato dell'istanza.",
        "送信者のドメインは、インスタンスのカスタムドメインとして設定されている必要があります。",
        "발신자 도메인은 인스턴스의 사용자 지정 도메인으로 등록되어 있어야 합니다.",
        "Доменот на испраќачот мора да биде поставен како сопствен домен на инстанцата.",
        "Het domein van de afzender moet als eigen domein van de instantie zijn ingesteld.",
        "Domena nadawcy musi być ustawiona jako własna domena instancji.",
        "O domínio do remetente deve estar configurado como domínio próprio da instância.",
        "Domeniul expeditorului trebuie configurat ca domeniu propriu al instanței.",
        "Домен отправителя должен быть добавлен как собственный домен инстанса.",
        "Avsändarens domän måste vara inlagd som egen domän för instansen.",
        "Gönderenin alan adı, örneğin özel alan adı olarak tanımlanmalıdır.",
        "发件人的域名必须配置为该实例的自定义域名。",
    ),
    "Password for test not found": (
        "Липсва парола за теста",
        "Chybí heslo pro test",
        "Kein Passwort für den Test gefunden",
        "Falta la contraseña para la prueba",
        "Mot de passe pour le test introuvable",
        "Nincs jelszó a teszthez",
        "Kata sandi untuk pengujian tidak ditemukan",
        "Password per la prova non trovata",
        "テスト用のパスワードが見つかりません",
        "테스트에 쓸 비밀번호가 없습니다",
        "Недостасува лозинка за тестот",
        "Geen wachtwoord voor de test gevonden",
        "Brak hasła do testu",
        "Palavra-passe para o teste não encontrada",
        "Lipsește parola pentru test",
        "Не найден пароль для проверки",
        "Lösenord för testet saknas",
        "Deneme için parola bulunamadı",
        "未找到测试用的密码",
    ),
    "Email address for test not found": (
        "Липсва имейл адрес за теста",
        "Chybí e-mailová adresa pro test",
        "Keine E-Mail-Adresse für den Test gefunden",
        "Falta la dirección de correo para la prueba",
        "Adresse e-mail pour le test introuvable",
        "Nincs e-mail-cím a teszthez",
        "Alamat email untuk pengujian tidak ditemukan",
        "Indirizzo e-mail per la prova non trovato",
        "テスト用のメールアドレスが見つかりません",
        "테스트에 쓸 이메일 주소가 없습니다",
        "Недостасува е-пошта за тестот",
        "Geen e-mailadres voor de test gevonden",
        "Brak adresu e-mail do testu",
        "Endereço de e-mail para o teste não encontrado",
        "Lipsește adresa de e-mail pentru test",
        "Не найден адрес электронной почты для проверки",
        "E-postadress för testet saknas",
        "Deneme için e-posta adresi bulunamadı",
        "未找到测试用的邮箱地址",
    ),
    "ID missing": (
        "Липсва идентификатор",
        "Chybí ID",
        "ID fehlt",
        "Falta el ID",
        "ID manquant",
        "Hiányzik az azonosító",
        "ID tidak ada",
        "ID mancante",
        "ID がありません",
        "ID가 없습니다",
        "Недостасува ID",
        "ID ontbreekt",
        "Brak ID",
        "ID em falta",
        "Lipsește ID-ul",
        "Не указан ID",
        "ID saknas",
        "Kimlik eksik",
        "缺少 ID",
    ),
    "An internal error occurred": (
        "Възникна вътрешна грешка",
        "Došlo k vnitřní chybě",
        "Ein interner Fehler ist aufgetreten",
        "Se ha producido un error interno",
        "Une erreur interne est survenue",
        "Belső hiba történt",
        "Terjadi kesalahan internal",
        "Si è verificato un errore interno",
        "内部エラーが発生しました",
        "내부 오류가 발생했습니다",
        "Настана внатрешна грешка",
        "Er is een interne fout opgetreden",
        "Wystąpił błąd wewnętrzny",
        "Ocorreu um erro interno",
        "A apărut o eroare internă",
        "Произошла внутренняя ошибка",
        "Ett internt fel inträffade",
        "Bir iç hata oluştu",
        "发生内部错误",
    ),
}


def translate(sentence: str, language: str) -> str:
    """Return `sentence` in `language`, one of LANGUAGES, or as it is when there is no translation."""
    others = _TRANSLATIONS.get(sentence) or TRANSLATIONS.get(sentence)
    if others is None or language == DEFAULT_LANGUAGE:
        return sentence
    return others[_OTHERS.index(language)]


def choose(accept_language: str, default: str = DEFAULT_LANGUAGE) -> str:
    """Return the one of LANGUAGES that an Accept-Language header asks for most, or `default`.

    RFC 9110 12.5.4, RFC 4647: by weight, then by position; a regional tag ("de-CH") means its language. What is
    refused (q=0), unknown or unreadable is passed over.
    """
    if not accept_language:
        return default
    wished = []
    for position, part in enumerate(accept_language.split(",")):
        tag, _, parameter = part.partition(";")
        language = tag.strip().lower().partition("-")[0]
        weight = _weight(parameter)
        if weight > 0 and language in LANGUAGES:
            wished.append((-weight, position, language))
    return min(wished)[2] if wished else default


def _weight(parameter: str) -> float:
    """Return the weight in "q=0.5", 1 when none is given, 0 when it cannot be read."""
    if not parameter.strip():
        return 1.0
    name, _, value = parameter.partition("=")
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if name.strip().lower() == "q" and 0 <= weight <= 1 else 0.0
