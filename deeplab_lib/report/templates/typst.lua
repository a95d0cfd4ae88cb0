-- The document of notebook.lua as Typst markup. Formulas, tables and floats are written here, because pandoc's own
-- writer drops alternative text, numbers uncaptioned tables and emits symbols that Typst has renamed.

local tables = dofile(pandoc.path.join({ pandoc.path.directory(PANDOC_SCRIPT_FILE), 'tables.lua' }))

local PLAIN = pandoc.WriterOptions({ wrap_text = 'none' })

local TABLES = { traverse = 'topdown' } -- filled below: the tables in whatever is written

local function typst(blocks)
  return (pandoc.write(pandoc.Pandoc(pandoc.Blocks(blocks):walk(TABLES)), 'typst-citations', PLAIN):gsub('%s+$', ''))
end

-- The markup of each of many blocks, such as the cells of a table: one call of the writer for each would take most of
-- the time.
local SEPARATOR = '\u{f8ff}'

local function typst_each(list)
  local all, markups = pandoc.List(), {}
  for _, blocks in ipairs(list) do
    all:extend(blocks)
    all:insert(pandoc.RawBlock('typst', SEPARATOR))
  end
  for markup in typst(all):gmatch('(.-)%s*' .. SEPARATOR .. '%s*') do table.insert(markups, markup) end
  return markups
end

local function quoted(text) return '"' .. text:gsub('[\\"]', '\\%0'):gsub('%s+', ' ') .. '"' end
local function label(id) return id ~= '' and ' <' .. id .. '>' or '' end
local function raw(text) return pandoc.RawBlock('typst', text) end

-- Formulas ------------------------------------------------------------------------------------------------------

local LIMITS = { ['arg max'] = true, ['arg min'] = true, ['lim inf'] = true, ['lim sup'] = true }

local BRACKETS = { ['('] = 'paren.l', [')'] = 'paren.r', ['['] = 'bracket.l', [']'] = 'bracket.r', ['{'] = 'brace.l',
  ['}'] = 'brace.r', ['|'] = 'bar.v' }

local function big(percent, bracket)
  bracket = bracket:gsub('^\\', '')
  return 'lr(' .. (BRACKETS[bracket] or bracket) .. ', size: #' .. percent .. '%)'
end

local function operator(before, name)
  if before == '(' then return nil end -- upright("IoU"): text inside of a formula
  return before .. '#math.op(' .. quoted(name) .. (LIMITS[name] and ', limits: true)' or ')') .. ';'
end

local function repaired(markup)
  return (markup:gsub('%f[%a]sect%f[^%a]', 'inter') -- \cap
    :gsub('%.circle%f[^%a]', '.o') -- \odot, \otimes, \ominus
    :gsub('#h%(0em%)', '#h(0.278em)') -- \;
    :gsub('#scale%(x: (%d+)%%, y: %d+%%%)%[(\\?[^%]]+)%]', big):gsub('#scale%(x: (%d+)%%, y: %d+%%%)%[(\\?%])%]', big) -- \bigl
    :gsub('(.?)"(%a[%a ]*)"', operator))
end

local function equation(math)
  local messages, markup = pandoc.log.silence(function()
    return typst({ pandoc.Plain({ pandoc.Math('InlineMath', math.text) }) })
  end)
  if #messages > 0 then return nil end
  markup = repaired(markup:match('^%$(.*)%$'))
  return math.text:match('\\dfrac') and markup:gsub('frac(%b())', 'display(frac%1)') or markup
end

local function formula(math, number, id)
  local markup = equation(math)
  if not markup then return pandoc.Code(math.text) end
  local block = math.mathtype == 'DisplayMath'
  local options = block and 'block: true, ' or ''
  if number then options = options .. 'numbering: (..) => "(' .. number .. ')", ' end
  local body = block and '$ ' .. markup .. ' $' or '$' .. markup .. '$'
  local text = '#math.equation(' .. options .. 'alt: ' .. quoted(math.text) .. ', ' .. body .. ')'
  return pandoc.RawInline('typst', text .. (id and label(id) or ';'))
end

local FORMULAS = {
  traverse = 'topdown',
  Span = function(span)
    if span.classes[1] == 'equation' then
      return formula(span.content[1], span.attributes.number, span.identifier), false
    end
    if span.classes[1] == 'anchor' then return pandoc.RawInline('typst', '#metadata("")' .. label(span.identifier)), false end
  end,
  Math = function(math) return formula(math) end,
}

-- Tables --------------------------------------------------------------------------------------------------------

local NAMED = { white = 'ffffff', black = '000000', red = 'ff0000', green = '008000', blue = '0000ff', yellow = 'ffff00',
  gray = '808080', grey = '808080', orange = 'ffa500', lightgreen = '90ee90', lightblue = 'add8e6', pink = 'ffc0cb',
  lightgray = 'd3d3d3', lightgrey = 'd3d3d3', lightyellow = 'ffffe0', gold = 'ffd700', whitesmoke = 'f5f5f5' }

local function color(css)
  local r, g, b = css:match('^rgba?%(%s*(%d+)%s*,%s*(%d+)%s*,%s*(%d+)')
  local hex = css:match('^#(%x+)$') or NAMED[css] or (r and string.format('%02x%02x%02x', r, g, b))
  return hex and 'rgb("#' .. hex .. '")'
end

local function style_of(cell)
  local style = {}
  for name, value in (cell.attributes.style or ''):gmatch('([%w-]+)%s*:%s*([^;]+)') do
    style[name:lower()] = value:lower():gsub('%s+$', '')
  end
  return style
end

-- One cell as a Typst dictionary; the template lays it out, since only Typst knows how wide things are.
local function cell_markup(cell, content)
  local style = style_of(cell)
  local weight = style['font-weight']
  if weight and (weight:match('bold') or tonumber(weight) and tonumber(weight) >= 600) then
    content = '#strong[' .. content .. ']'
  end
  if style['font-style'] == 'italic' then content = '#emph[' .. content .. ']' end
  local ink, fill = style.color and color(style.color), color(style['background-color'] or style.background or '')
  if ink then content = '#text(fill: ' .. ink .. ')[' .. content .. ']' end
  local fields = { 'body: [' .. content .. ']', 'colspan: ' .. cell.col_span, 'rowspan: ' .. cell.row_span }
  if fill then table.insert(fields, 'fill: ' .. fill) end
  return '(' .. table.concat(fields, ', ') .. ')'
end

local nesting = 0 -- tables around what is being written

local function rows_markup(rows)
  local contents, lines = {}, {}
  for _, row in ipairs(rows) do
    for _, cell in ipairs(row.cells) do table.insert(contents, cell.contents) end
  end
  nesting = nesting + 1
  local markups, place = typst_each(contents), 0
  nesting = nesting - 1
  for _, row in ipairs(rows) do
    local cells = {}
    for _, cell in ipairs(row.cells) do
      place = place + 1
      table.insert(cells, cell_markup(cell, markups[place]))
    end
    table.insert(lines, '(' .. table.concat(cells, ', ') .. ',)')
  end
  return '(' .. table.concat(lines, ',\n') .. (#lines > 0 and ',)' or ')')
end

-- Characters from which a column is prose, which may be broken into lines: fewer, the wider the table would be.
-- Widths are in points, first at 9 pt, then at 7 pt with turned heads.
local function prose_length(columns)
  local function fits(limit, character, gap)
    local width = 0
    for _, column in ipairs(columns) do width = width + math.min(column.length, limit) * character + gap end
    return width < 470
  end
  if fits(math.huge, 4.4, 10) then return math.huge end
  for _, limit in ipairs({ 28, 18, 12 }) do
    if fits(limit, 3.4, 4.4) then return limit end
  end
  return 12
end

-- Typst measures a table in up to 18 settings. A long one is measured by rows made of the longest cells of each column:
-- measuring the whole would take a minute and gigabytes for some thousand rows.
local LONG_TABLE = 40

local function sample_markup(columns)
  local rows = {}
  for place = 1, tables.SAMPLE do
    local cells = {}
    for _, column in ipairs(columns) do
      local cell = column.longest[place]
      table.insert(cells, '(body: [' .. (cell and typst(cell.cell.contents) or '') .. '], colspan: 1, rowspan: 1)')
    end
    table.insert(rows, '(' .. table.concat(cells, ', ') .. ',)')
  end
  return '(' .. table.concat(rows, ',\n') .. ',)'
end

local function table_markup(tbl)
  local body, columns, widths, aligns = tables.body_rows(tbl), tables.columns(tbl), {}, {}
  local limit = prose_length(columns)
  for index, column in ipairs(columns) do
    local ideal = column.length <= 20 and column.length or 20 + (math.min(column.length, 120) - 20) * 0.35
    local prose = '(least: ' .. column.word .. ', ideal: ' .. ideal .. ', full: ' .. math.min(column.length, 120) .. ')'
    widths[index] = column.length > limit and prose or 'auto'
    local given = tbl.colspecs[index][1]
    aligns[index] = given == 'AlignRight' and 'right' or given == 'AlignCenter' and 'center' or 'left'
  end
  local sample = #body > LONG_TABLE and ',\n sample: ' .. sample_markup(columns) or ''
  return '#paper-table(columns: (' .. table.concat(widths, ', ') .. ',), align: (' .. table.concat(aligns, ', ')
    .. ',),\n header: ' .. rows_markup(tbl.head.rows) .. ',\n body: ' .. rows_markup(body) .. sample .. (nesting > 0 and ',\n nested: true' or '') .. ')'
end

-- Width in points at 7 pt with turned heads.
local function least_width(tbl)
  local width = 0
  for _, column in ipairs(tables.columns(tbl)) do
    width = width + math.min(column.length, math.max(column.word, 12)) * 3.5 + 4
  end
  return width
end

-- What will not fit a portrait page goes on a landscape one; what will not fit that either is transposed.
local PORTRAIT, LANDSCAPE = 540, 800

local function has_spans(rows, count)
  return rows:find_if(function(row)
    return #row.cells ~= count or row.cells:find_if(function(cell) return cell.col_span * cell.row_span ~= 1 end) ~= nil
  end) ~= nil
end

local function transposed_if_hopeless(tbl)
  local rows, count = pandoc.List(tbl.head.rows) .. tables.body_rows(tbl), #tbl.colspecs
  if least_width(tbl) < LANDSCAPE or #rows >= count or #tbl.head.rows ~= 1 or has_spans(rows, count) then return nil end
  local turned = pandoc.List()
  for column = 1, count do
    turned:insert(pandoc.Row(rows:map(function(row) return row.cells[column] end)))
  end
  tbl.colspecs = rows:map(function() return { 'AlignLeft', nil } end)
  tbl.head = pandoc.TableHead({ turned:remove(1) })
  tbl.bodies = { { attr = pandoc.Attr(), head = {}, body = turned, row_head_columns = 1 } }
  tbl.foot = pandoc.TableFoot()
  return tbl
end

-- Floats --------------------------------------------------------------------------------------------------------

local function part(div, class)
  for _, block in ipairs(div.content) do
    if block.t == 'Div' and block.classes[1] == class then return block.content end
  end
end

local function alternative(div)
  local alt = div.attributes.alt
  div:walk({ Image = function(image) alt = alt or pandoc.utils.stringify(image.caption) end })
  return alt and alt ~= '' and alt or 'Figure'
end

local function image(element, alt)
  local width = element.attributes.width or ''
  width = width:match('^[%d.]+%%$') or width:match('^[%d.]+in$') or width:match('^[%d.]+[pc][tm]$')
    or tonumber(width) and width * 0.75 .. 'pt' or 'none'
  alt = alt or pandoc.utils.stringify(element.caption)
  return pandoc.RawInline('typst', '#picture(' .. quoted(element.src) .. ', width: ' .. width .. ', alt: '
    .. quoted(alt ~= '' and alt or 'picture') .. ');')
end

local function float(div)
  local kind, number = div.classes[2], div.attributes.number
  local wide, long = false, false
  div:walk({ Table = function(tbl)
    wide = wide or least_width(tbl) > PORTRAIT
    long = long or #tables.body_rows(tbl) > 16
  end })
  local alt = kind == 'fig' and alternative(div) or nil
  local content = div.content:filter(function(block)
    local class = block.t == 'Div' and block.classes[1]
    return class ~= 'caption' and class ~= 'note'
  end)
  content = content:walk({ Image = function(element) return image(element, alt) end })
  local caption, note = part(div, 'caption'), part(div, 'note')
  local options = { 'kind: ' .. quoted(kind) }
  if number then table.insert(options, 'number: ' .. quoted(number)) end
  if caption then table.insert(options, 'caption: [' .. typst(caption) .. ']') end
  if note then table.insert(options, 'note: [' .. typst(note) .. ']') end
  if long then table.insert(options, 'long: true') end
  if div.attributes.place then table.insert(options, 'place: ' .. div.attributes.place) end
  local markup = '#float(' .. table.concat(options, ', ') .. ')[\n' .. typst(content) .. '\n]' .. label(div.identifier)
  if long then markup = '#place.flush()\n' .. markup end
  return raw(wide and '#page(flipped: true)[\n' .. markup .. '\n]' or markup)
end

-- What stands right behind a heading comes to stand above it when it floats to the top of the page, and splits what ends
-- there. So the text comes first, and the figures go to the bottom of its page or, as all others, to a later one.
local function text_before_figures(blocks)
  local out, waiting = pandoc.Blocks({}), nil
  for _, block in ipairs(blocks) do
    local is_figure = block.t == 'Div' and block.classes[1] == 'float' and block.classes[2] == 'fig'
    if waiting and is_figure then
      block.attributes.place = 'bottom'
      waiting:insert(block)
    else
      local is_heading = block.t == 'Header'
      if is_heading then out:extend(waiting or {}) end
      out:insert(block)
      if not is_heading then out:extend(waiting or {}) end
      waiting = is_heading and pandoc.Blocks({}) or nil
    end
  end
  return out .. (waiting or {})
end

-- A float at the bottom of the page on which the next chapter begins would stand in that one: of the last floats before a
-- heading of level 1 none goes to the bottom.
local function last_floats_on_top(blocks)
  local following = math.huge -- blocks of text up to the next chapter
  for index = #blocks, 1, -1 do
    local block = blocks[index]
    if block.t == 'Header' then
      following = block.level == 1 and 0 or following + 1
    elseif block.t == 'Div' and block.classes[1] == 'float' then
      if following < 4 then block.attributes.place = block.attributes.place or 'top' end
    else
      following = following + 1
    end
  end
  return blocks
end

-- Everything else -----------------------------------------------------------------------------------------------

local function header(element)
  local number = element.attributes.number
  local flush = element.level == 1 and '#place.flush()\n' or ''
  return raw(flush .. '#section(' .. element.level .. ', ' .. (number and quoted(number) or 'none') .. ')['
    .. typst({ pandoc.Plain(element.content) }) .. ']' .. label(element.identifier))
end

local function bibliography(div)
  local entries = pandoc.List()
  for _, entry in ipairs(div.content) do
    local mark, text = {}, entry.content
    text = pandoc.Blocks(text):walk({ Span = function(span)
      if span.classes[1] == 'csl-left-margin' then mark = span.content return {} end
    end })
    entries:insert(raw('#reference[' .. typst({ pandoc.Plain(mark) }) .. '][' .. typst(text) .. ']' .. label(entry.identifier)))
  end
  return entries
end

local REST = {
  traverse = 'topdown',
  Div = function(div)
    if div.identifier == 'refs' then return bibliography(div), false end
    if div.classes:includes('warning') then return raw('#warning[\n' .. typst(div.content) .. '\n]'), false end
    if div.classes[1] == 'float' then return float(div), false end
  end,
  Header = function(element) return header(element), false end,
  Image = function(element) return image(element) end,
  CodeBlock = function(block)
    local language = block.classes[1] ~= 'output' and block.classes[1] or nil
    return raw('#listing(' .. quoted(block.classes[1] == 'output' and 'output' or 'code') .. ', raw('
      .. '"' .. block.text:gsub('[\\"]', '\\%0'):gsub('\n', '\\n') .. '", block: true'
      .. (language and ', lang: ' .. quoted(language) or '') .. '))')
  end,
}

function TABLES.Table(tbl) return { raw(table_markup(tbl)) }, false end

function Pandoc(doc)
  for key, value in pairs(doc.meta) do
    if pandoc.utils.type(value) == 'Blocks' or pandoc.utils.type(value) == 'Inlines' then
      doc.meta[key] = value:walk(FORMULAS)
    end
  end
  for _, key in ipairs({ 'title', 'author', 'keywords', 'scope' }) do
    local value = doc.meta[key]
    if value then
      local list = pandoc.utils.type(value) == 'List' and value or { value }
      local strings = pandoc.List.map(list, function(item) return pandoc.RawInline('typst', quoted(pandoc.utils.stringify(item))) end)
      doc.meta[key .. '-text'] = pandoc.MetaList(strings)
    end
  end
  doc.blocks = last_floats_on_top(text_before_figures(doc.blocks)):walk({ Table = transposed_if_hopeless }):walk(FORMULAS):walk(REST):walk(TABLES)
  return doc
end
